"""
Pictures of a reply, as SVG: how each block of audio was denoised, and when the model wrote, denoised and was played.

Pure functions of a [`ReplyTrace`]. Colours are classes, which `page.css` paints in light and dark. All text of users
and models goes through `html.escape`. Sizes are in pixels and never scaled, so that text has the same size on a desktop
and on a phone: cards flow, and the timeline's horizontal positions are percentages.
"""

import itertools
from html import escape

import numpy as np

from .reply_trace import BlockTrace, ReplyTrace, SpanTrace

PITCH, CELL = 10, 9  # pixels from position to position, and width of one position
BLOCK_GAP = 4
WAVE_HEIGHT = 34
NUM_SHADES = 5
BARS_PER_CODE = 2


def shade(confidence: float) -> int:
    """Return the shade of a probability: one of five, 0 for the lowest."""
    return min(NUM_SHADES - 1, int(confidence * NUM_SHADES))


def span_cards(trace: ReplyTrace) -> list[str]:
    """
    Draw a reply span by span: its words, how its audio was denoised (positions from left to right, steps from top to
    bottom), its waveform.

    Args:
        trace ([`ReplyTrace`]): A reply, as far as it has come.

    Returns:
        `list[str]`: HTML for each span. That of a finished span stays the same while the reply continues.
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
    steps = sum(block.num_steps for block in span.blocks)
    says = f"{span.num_codes} codes, {seconds:.2f} s of audio, denoised in {steps} steps"
    return (
        f'<figure class="span-card" data-begins="{begins:.3f}" data-seconds="{seconds:.3f}">'
        f"<figcaption>{words}</figcaption>"
        f'<svg width="{width}" height="{heat_height + WAVE_HEIGHT + 6}" role="img" aria-label="{says}">'
        f'<title>{says}</title>{cells}<g transform="translate(0 {heat_height + 6})">{wave}</g></svg>'
        f'<small aria-hidden="true">{seconds:.2f} s</small></figure>'
    )


def _cells(span: SpanTrace) -> tuple[str, int]:
    """Draw the blocks of a span side by side, with one path for each shade; return the paths and their width."""
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
    """Positions that are shown: the codes, and the end marker behind them if there is one."""
    return min(block.num_codes + 1, len(block.is_code))


def _paint(block: BlockTrace, step: int, position: int) -> str:
    at, level = block.revealed_at[position], shade(block.confidence[step][position])
    if at is None or step < at:
        return f"mask{level}"
    return f"code{level}" if block.is_code[position] else "end"


def _bars(samples: np.ndarray, whole: int, num_bars: int, width: float) -> str:
    """Draw a waveform as bars: of `num_bars` bars for `whole` samples, those whose samples have come."""
    edges = [round(i * whole / num_bars) for i in range(num_bars + 1)]
    pitch, middle, strokes = width / num_bars, WAVE_HEIGHT / 2, []
    for i, (first, last) in enumerate(itertools.pairwise(edges)):
        if len(samples) < last:
            break
        loudness = float(np.abs(samples[first:last]).max(initial=0)) ** 0.5  # the root is closer to perceived loudness
        half = max(0.8, loudness * middle)
        strokes.append(f"M{(i + 0.5) * pitch:.1f} {middle - half:.1f}V{middle + half:.1f}")
    return f'<path class="wave" d="{"".join(strokes)}"/>' if strokes else ""


# ------------------------------------------------------------------------------------------------------------- timeline

LABEL_ROW, MODEL_LANE, VOICE_LANE = 17, 14, WAVE_HEIGHT + 6


def timeline(trace: ReplyTrace) -> str:
    """
    Draw when a reply was computed, and when it is played, on one clock that begins with the question.

    Args:
        trace ([`ReplyTrace`]): A reply, as far as it has come; its seconds count from the question.

    Returns:
        `str`: HTML; empty before there is anything to draw.
    """
    spoken = [i for i in range(len(trace.spans)) if trace.spans[i].num_codes]
    ends = [trace.played_at(trace.begins(i)) + trace.seconds_of(i) / trace.speed for i in spoken]
    total = max([trace.ended_at, *ends])
    if not trace.spans or total <= 0:
        return ""
    voice_top = MODEL_LANE + 10 + 2 * LABEL_ROW
    height = voice_top + VOICE_LANE + 20
    says = escape(_in_words(trace, total), quote=True)
    return (
        f'<svg class="timeline" width="100%" height="{height}" role="img" aria-label="{says}">'
        f"{_model_lane(trace, total)}{_voice_lane(trace, spoken, total, voice_top)}{_clock(total, height)}</svg>"
    )


def _in_words(trace: ReplyTrace, total: float) -> str:
    first = "" if trace.first_audio is None else f" First audio after {trace.first_audio * 1000:.0f} ms."
    return f"Computed in {trace.ended_at:.2f} s, played until {total:.2f} s.{first} Words: {trace.text.strip()}"


def _model_lane(trace: ReplyTrace, total: float) -> str:
    """Draw the time of computing without gaps: text until its last piece, audio until the last step of its block."""
    tiles, now = [], 0.0
    for span in trace.spans:
        written = span.written_at if span.words else now
        tiles.append(("writes", now, written))
        ended = span.blocks[-1].ended_at if span.blocks else written
        tiles.append(("denoises", written, ended))
        now = ended
    return "".join(
        f'<rect class="{name}" x="{_percent(start, total)}" width="{_percent(end - start, total)}" y="0" '
        f'height="{MODEL_LANE}"/>'
        for name, start, end in tiles
        if end > start
    )


def _voice_lane(trace: ReplyTrace, spoken: list[int], total: float, top: int) -> str:
    audio, parts = trace.audio, []
    # Lines from the upper row leave the lower one out, where they would run through its words.
    dashes = f' stroke-dasharray="{LABEL_ROW - 3} {LABEL_ROW - 1} {VOICE_LANE + LABEL_ROW}"'
    places = [trace.played_at(trace.begins(i)) for i in spoken]
    for count, (i, played) in enumerate(zip(spoken, places, strict=True)):
        begins, seconds = trace.begins(i), trace.seconds_of(i)
        x, width = _percent(played, total), _percent(seconds / trace.speed, total)
        row = top - LABEL_ROW * (1 + count % 2) + 12  # two rows: words have the room until the words after the next
        room = _percent((places[count + 2] if count + 2 < len(places) else total) - played, total)
        samples = audio[round(begins * trace.sampling_rate) : round((begins + seconds) * trace.sampling_rate)]
        bars = _bars(samples, round(seconds * trace.sampling_rate), trace.spans[i].num_codes * BARS_PER_CODE, 100)
        words = escape(trace.spans[i].words.strip())
        label = f'<svg x="{x}" width="{room}" height="{top}"><text x="4" y="{row}">{words}</text></svg>'
        if played > 0.85 * total:  # no room to the right
            label = f'<text x="100%" y="{row}" text-anchor="end">{words}</text>'
        parts.append(
            f'<g class="played" data-begins="{begins:.3f}" data-seconds="{seconds:.3f}">'
            f'<line class="stem" x1="{x}" x2="{x}" y1="{row - 10}" y2="{top + VOICE_LANE}"{dashes * (count % 2)}/>'
            f"{label}"
            f'<rect class="span" x="{x}" width="{width}" y="{top}" height="{VOICE_LANE}"/>'
            f'<svg x="{x}" y="{top + 3}" width="{width}" height="{WAVE_HEIGHT}" viewBox="0 0 100 {WAVE_HEIGHT}" '
            f'preserveAspectRatio="none">{bars}</svg></g>'
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


# -------------------------------------------------------------------------------------------------------------- figures


def figures(
    first_audio: float | None = None,
    real_time_factor: float | None = None,
    tokens_per_forward: float | None = None,
    since: str = "you stopped speaking",
) -> str:
    """
    Show how fast a reply was.

    Args:
        first_audio (`float`, *optional*): Seconds until the first audio.
        real_time_factor (`float`, *optional*): Seconds of computing per second of audio.
        tokens_per_forward (`float`, *optional*): New token ids per forward pass.
        since (`str`, *optional*): What the seconds until the first audio count from.

    Returns:
        `str`: HTML, with a dash for a number that is not known yet.
    """
    milliseconds = None if first_audio is None else f"{first_audio * 1000:.0f}"
    return (
        '<dl class="figures">'
        + _figure("First audio", milliseconds, "ms", f"since {since}")
        + _figure("Real-time factor", _two_digits(real_time_factor), "", "below 1 keeps up with speech")
        + _figure("Tokens per forward", _two_digits(tokens_per_forward), "", "1 is one by one")
        + "</dl>"
    )


def _figure(name: str, value: str | None, unit: str, note: str) -> str:
    shown = "–" if value is None else value
    return (
        f"<div><dt>{name}</dt><dd>{shown}<small>{'' if value is None else unit}</small></dd>"
        f"<dd class='note'>{note}</dd></div>"
    )


def _two_digits(value: float | None) -> str | None:
    return None if value is None else f"{value:.2f}"


def _swatch(name: str, picture: str = "") -> str:
    """Draw a square in the colour of a class."""
    return f'<svg class="{picture}" width="10" height="10"><rect class="{name}" width="9" height="9"/></svg>'


_LANES = {"writes": "writes text", "denoises": "denoises audio", "span": "is played"}
TIMELINE_LEGEND = (
    '<p class="legend" aria-hidden="true">'
    + "".join(f"{_swatch(name, 'timeline')}<span>{says}</span>" for name, says in _LANES.items())
    + "</p>"
)
SHADES_LEGEND = (
    f'<p class="legend" aria-hidden="true"><span>mask</span>{_swatch("mask1")}<span>unsure</span>'
    + "".join(_swatch(f"code{shade}") for shade in range(NUM_SHADES))
    + f"<span>sure</span>{_swatch('end')}<span>end of span</span></p>"
)
