"""
Pictures of a reply, as SVG: how each block of sound was denoised, and when the model wrote, computed and was heard.

Pure functions of a [`ReplyTrace`]. Colours are classes, for `page.css` to paint in light and dark. Every word of a
user or a model goes through `html.escape`. Sizes are in pixels and never scaled, so that what is read on a desktop is
read on a phone: cards flow, and the timeline's horizontal places are percentages.
"""

import itertools
from html import escape

import numpy as np

from .reply_trace import BlockTrace, ReplyTrace, SpanTrace

PITCH, CELL = 10, 9  # pixels from position to position, and of one position
BLOCK_GAP = 4
WAVE_HEIGHT = 34
NUM_SHADES = 5
BARS_PER_CODE = 2


def shade(confidence: float) -> int:
    """Sort a probability into one of five shades, 0 for the least sure."""
    return min(NUM_SHADES - 1, int(confidence * NUM_SHADES))


def span_cards(trace: ReplyTrace) -> list[str]:
    """
    Draw a reply span by span: its words, its sound being denoised (positions from left to right, steps from top to
    bottom), its waveform.

    Args:
        trace ([`ReplyTrace`]): A reply, whole or as far as it came.

    Returns:
        `list[str]`: A piece of HTML for each span. Those that are finished stay the same while the reply goes on.
    """
    audio = trace.audio
    return [_span_card(trace, index, audio) for index in range(len(trace.spans))]


def _span_card(trace: ReplyTrace, index: int, audio: np.ndarray) -> str:
    span, begins, seconds = trace.spans[index], trace.begins(index), trace.seconds_of(index)
    words = escape(span.words.strip()) or "&nbsp;"
    if not span.blocks:
        return f'<figure class="span-card"><figcaption>{words}</figcaption></figure>'
    num_steps = max(block.num_steps for block in span.blocks)
    heat_height = num_steps * PITCH
    cells, width = _cells(span)
    samples = audio[round(begins * trace.sampling_rate) : round((begins + seconds) * trace.sampling_rate)]
    whole = round(seconds * trace.sampling_rate)
    wave = _bars(samples, whole, span.num_codes * BARS_PER_CODE, width) if whole else ""
    says = f"{span.num_codes} codes, {seconds:.2f} s of sound, denoised in {sum(block.num_steps for block in span.blocks)} steps"
    return (
        f'<figure class="span-card" data-begins="{begins:.3f}" data-seconds="{seconds:.3f}">'
        f"<figcaption>{words}</figcaption>"
        f'<svg width="{width}" height="{heat_height + WAVE_HEIGHT + 6}" role="img" aria-label="{says}"><title>{says}</title>'
        f'{cells}<g transform="translate(0 {heat_height + 6})">{wave}</g></svg>'
        f'<small aria-hidden="true">{seconds:.2f} s</small></figure>'
    )


def _cells(span: SpanTrace) -> tuple[str, int]:
    """Draw the blocks of a span side by side: one path for each shade."""
    paths: dict[str, list[str]] = {}
    left = 0
    for block in span.blocks:
        for step in range(block.num_steps):
            for position in range(_num_shown(block)):
                square = f"M{left + position * PITCH} {step * PITCH}h{CELL}v{CELL}h-{CELL}z"
                paths.setdefault(_paint(block, step, position), []).append(square)
        left += _num_shown(block) * PITCH + BLOCK_GAP
    drawn = "".join(f'<path class="{name}" d="{"".join(squares)}"/>' for name, squares in sorted(paths.items()))
    return drawn, max(left - BLOCK_GAP, PITCH)


def _num_shown(block: BlockTrace) -> int:
    """Positions worth showing: the codes, and the end marker behind them, if there is one."""
    return min(block.num_codes + 1, len(block.is_code))


def _paint(block: BlockTrace, step: int, position: int) -> str:
    at, level = block.revealed_at[position], shade(block.confidence[step][position])
    if at is None or step < at:
        return f"mask{level}"
    return f"code{level}" if block.is_code[position] else "end"


def _bars(samples: np.ndarray, whole: int, num_bars: int, width: float) -> str:
    """Draw a waveform as bars, those of the sound that has come out of `whole` samples."""
    edges = [round(i * whole / num_bars) for i in range(num_bars + 1)]
    pitch, middle, strokes = width / num_bars, WAVE_HEIGHT / 2, []
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        if len(samples) < last:
            break
        half = max(
            0.8, float(np.abs(samples[first:last]).max(initial=0)) ** 0.5 * middle
        )  # the root, as ears would have it
        strokes.append(f"M{(i + 0.5) * pitch:.1f} {middle - half:.1f}V{middle + half:.1f}")
    return f'<path class="wave" d="{"".join(strokes)}"/>' if strokes else ""


# ------------------------------------------------------------------------------------------------------------------ timeline

LABEL_ROW, MODEL_LANE, VOICE_LANE = 17, 14, WAVE_HEIGHT + 6


def timeline(trace: ReplyTrace) -> str:
    """
    Draw when a reply was computed, and when it is heard, on one clock that begins with the question.

    Args:
        trace ([`ReplyTrace`]): A reply, whole or as far as it came; its seconds count from the question.

    Returns:
        `str`: A piece of HTML; empty before there is anything.
    """
    spoken = [i for i in range(len(trace.spans)) if trace.spans[i].num_codes]
    total = max([trace.ended_at, *(trace.heard_at(trace.begins(i)) + trace.seconds_of(i) for i in spoken)])
    if not trace.spans or total <= 0:
        return ""
    voice_top = MODEL_LANE + 10 + 2 * LABEL_ROW
    height = voice_top + VOICE_LANE + 20
    return (
        f'<svg class="timeline" width="100%" height="{height}" role="img" aria-label="{escape(_in_words(trace, total), quote=True)}">'
        f"{_model_lane(trace, total)}{_voice_lane(trace, spoken, total, voice_top)}{_clock(total, height)}</svg>"
    )


def _in_words(trace: ReplyTrace, total: float) -> str:
    first = "" if trace.first_audio is None else f" First sound after {trace.first_audio * 1000:.0f} ms."
    return f"Computed in {trace.ended_at:.2f} s, heard until {total:.2f} s.{first} Words: {trace.text.strip()}"


def _model_lane(trace: ReplyTrace, total: float) -> str:
    """Tile the time of computing: text until its last id is seen, sound until the last step; a block of one step takes its time too."""
    tiles, now = [], 0.0
    for span in trace.spans:
        written = span.written_at if span.words else now
        tiles.append(("writes", now, written))
        ended = span.blocks[-1].ended_at if span.blocks else written
        tiles.append(("denoises", written, ended))
        now = ended
    return "".join(
        f'<rect class="{name}" x="{_percent(start, total)}" width="{_percent(end - start, total)}" y="0" height="{MODEL_LANE}"/>'
        for name, start, end in tiles
        if end > start
    )


def _voice_lane(trace: ReplyTrace, spoken: list[int], total: float, top: int) -> str:
    audio, parts = trace.audio, []
    places = [trace.heard_at(trace.begins(i)) for i in spoken]
    for count, (i, heard) in enumerate(zip(spoken, places, strict=True)):
        begins, seconds = trace.begins(i), trace.seconds_of(i)
        x, width = _percent(heard, total), _percent(seconds, total)
        row = top - LABEL_ROW * (1 + count % 2) + 12  # two rows, so that words have the room until those after the next
        room = _percent((places[count + 2] if count + 2 < len(places) else total) - heard, total)
        samples = audio[round(begins * trace.sampling_rate) : round((begins + seconds) * trace.sampling_rate)]
        bars = _bars(samples, round(seconds * trace.sampling_rate), trace.spans[i].num_codes * BARS_PER_CODE, 100)
        words = escape(trace.spans[i].words.strip())
        label = f'<svg x="{x}" width="{room}" height="{top}"><text x="4" y="{row}">{words}</text></svg>'
        if heard > 0.85 * total:  # no room to the right
            label = f'<text x="100%" y="{row}" text-anchor="end">{words}</text>'
        parts.append(
            f'<g class="heard" data-begins="{begins:.3f}" data-seconds="{seconds:.3f}">'
            f'<line class="stem" x1="{x}" x2="{x}" y1="{row - 10}" y2="{top + VOICE_LANE}"/>'
            f"{label}"
            f'<rect class="span" x="{x}" width="{width}" y="{top}" height="{VOICE_LANE}"/>'
            f'<svg x="{x}" y="{top + 3}" width="{width}" height="{WAVE_HEIGHT}" viewBox="0 0 100 {WAVE_HEIGHT}" preserveAspectRatio="none">{bars}</svg></g>'
        )
    return "".join(parts)


def _clock(total: float, height: int) -> str:
    step = next(step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 600) if total / step <= 8)
    return "".join(
        f'<text class="tick" x="{_percent(i * step, total)}" y="{height - 4}">{i * step:g} s</text>'
        for i in range(int(total / step * 0.93) + 1)
    )


def _percent(value: float, total: float) -> str:
    return f"{100 * value / total:.2f}%"


# ------------------------------------------------------------------------------------------------------------------- figures


def figures(
    first_audio: float | None = None, real_time_factor: float | None = None, tokens_per_forward: float | None = None
) -> str:
    """
    Show what a reply cost.

    Args:
        first_audio (`float`, *optional*): Seconds until the first sound.
        real_time_factor (`float`, *optional*): Seconds that a second of sound took.
        tokens_per_forward (`float`, *optional*): Ids that one forward pass gave.

    Returns:
        `str`: A piece of HTML; a dash stands for what is not known yet.
    """
    shown = (
        ("First sound", None if first_audio is None else f"{first_audio * 1000:.0f}", "ms", "from the question's turn"),
        (
            "Real-time factor",
            None if real_time_factor is None else f"{real_time_factor:.2f}",
            "",
            "below 1 keeps up with speech",
        ),
        (
            "Tokens per forward",
            None if tokens_per_forward is None else f"{tokens_per_forward:.2f}",
            "",
            "1 is one by one",
        ),
    )
    return (
        '<dl class="figures">'
        + "".join(
            f"<div><dt>{name}</dt><dd>{value or '–'}<small>{unit if value else ''}</small></dd><dd class='note'>{note}</dd></div>"
            for name, value, unit, note in shown
        )
        + "</dl>"
    )


TIMELINE_LEGEND = (
    '<p class="legend" aria-hidden="true">'
    + "".join(
        f'<svg class="timeline" width="10" height="10"><rect class="{name}" width="9" height="9"/></svg><span>{says}</span>'
        for name, says in (("writes", "writes text"), ("denoises", "denoises sound"), ("span", "is heard"))
    )
    + "</p>"
)
SHADES_LEGEND = (
    '<p class="legend" aria-hidden="true"><span>mask</span><svg width="10" height="10"><rect class="mask1" width="9" height="9"/></svg>'
    + "<span>unsure</span>"
    + "".join(
        f'<svg width="10" height="10"><rect class="code{i}" width="9" height="9"/></svg>' for i in range(NUM_SHADES)
    )
    + '<span>sure</span><svg width="10" height="10"><rect class="end" width="9" height="9"/></svg><span>end of span</span></p>'
)
