"""
The measured tables of nano's model card.

Knows what `model.measure` returns. Measures nothing.
"""

import math
from typing import Any

SPLITS = {
    "unseen_sentence": "known fact, unseen pair of fact and wording",
    "unseen_template": "known fact, unseen wording",
    "unseen_fact": "unseen fact",
    "train": "seen question, new sound",
}
KINDS_HEAD = "| kind of question, held-out | n | answer exact | question written down exactly | wrong answers, by the kind that they answer |"
BIGRAM, ENGLISH = "domain bigram", "general English"


def interval(share: float, count: int) -> tuple[float, float]:
    """
    The 95 % interval of a share that was counted (Wilson, 1927).

    Args:
        share (`float`): Hits over tries.
        count (`int`): Tries.

    Returns:
        `tuple[float, float]`: Both ends.
    """
    z = 1.96
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def card_tables(result: dict[str, Any]) -> str:
    """
    Write the tables of the model card.

    Args:
        result (`dict`): What `measure` returned.

    Returns:
        `str`: Markdown.
    """
    splits = result["answer by split"]
    held_out = [split for name, split in splits.items() if name != "train"]
    count = sum(split["n"] for split in held_out)
    right = sum(split["exact"] * split["n"] for split in held_out) / count
    rows = [
        ("answer's text exactly right, held-out spoken questions", _share(right, count)),
        *((f"– {label}", _share(splits[name]["exact"], splits[name]["n"])) for name, label in SPLITS.items()),
        *(
            (f"– held-out, asked by voice {name}", _share(v["exact"], v["n"]))
            for name, v in result["answer by voice"].items()
        ),
        ("– held-out, noise at 10 dB (the same without)", _in_noise(result["answer in noise"])),
        (
            "second turn of a conversation, unseen wording, exact",
            _share(result["second turn"]["exact"], result["second turn"]["n"]),
        ),
        (
            f"four questions in a conversation, each about something else, exact by turn (n = {result['talks']['n']})",
            ", ".join(f"{share:.2f}" for share in result["talks"]["exact by turn"]),
        ),
        ('"Repeat after me", unseen general English: text exact / WER', _text_errors(result["repeat"])),
        *_spoken_rows(result),
        (
            "transcription WER, questions: unseen / seen",
            f"{_wer(result, 'hear, unseen questions')} / {_wer(result, 'hear, seen questions')}",
        ),
        ("transcription WER, unseen general English", _wer(result, "hear, general English")),
        *((f"– voice {name}", f"{v['wer']:.3f}") for name, v in result["hear, general English, by voice"].items()),
        ("replies that end by themselves", f"{result['finished']:.2f}"),
        *_speed_rows(result["speed"]),
    ]
    written = result["hear, unseen questions, exact by kind"]
    kinds = [
        f"| {kind} | {v['n']} | {v['exact']:.2f} | {written[kind]:.2f} | {_instead(result['wrong answers by kind'][kind])} |"
        for kind, v in result["answer by kind"].items()
    ]
    head = ["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join([*head, "", KINDS_HEAD, "|---|---|---|---|---|", *kinds])


def _share(share: float, count: int) -> str:
    low, high = interval(share, count)
    return f"{share:.3f} ({low:.3f} to {high:.3f}, n = {count})"


def _instead(wrong: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in wrong.items()) or "none"


def _in_noise(result: dict[str, float]) -> str:
    return f"{_share(result['exact'], int(result['n']))} ({result['quiet']:.3f})"


def _text_errors(result: dict[str, float]) -> str:
    return f"{_share(result['exact'], int(result['n']))} / {result['wer']:.3f}"


def _wer(result: dict[str, Any], name: str) -> str:
    return f"{result[name]['wer']:.3f}"


def _spoken_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        (
            label,
            f"{result[name][BIGRAM]['wer']:.3f} / {result[name][ENGLISH]['wer']:.3f} (CER {result[name][ENGLISH]['cer']:.3f})",
        )
        for label, name in (
            ("spoken reply against its own text, WER: domain bigram / general English", "reply, against its own text"),
            (
                "– the same texts by the synthesiser through the codec",
                "reply's text, by the synthesiser through the codec",
            ),
            ("spoken reply against the right answer", "reply, against the right answer"),
            ("unseen answers read aloud", "speak, unseen answers"),
            ("– the synthesiser itself", "the synthesiser itself"),
            ("– the synthesiser through the codec", "the synthesiser through the codec"),
        )
    ]
    own = result["reply, against its own text"][BIGRAM]
    rows.insert(1, ("– numbers and keywords all heard right (domain bigram)", f"{own['keywords']:.2f}"))
    aloud, coded = result["speak, general English"][ENGLISH], result["general English through the codec"][ENGLISH]
    name = "unseen general English read aloud, WER (CER): nano / the synthesiser through the codec"
    return [*rows, (name, f"{aloud['wer']:.3f} ({aloud['cer']:.3f}) / {coded['wer']:.3f} ({coded['cer']:.3f})")]


def _speed_rows(speed: dict[str, float]) -> list[tuple[str, str]]:
    threads = f"{speed['threads']} thread(s), median"
    return [
        (
            f"real-time factor, one question at a time, waveform to waveform, {threads}",
            f"{speed['real_time_factor']:.2f}",
        ),
        (f"seconds to the first sound of a stream, {threads}", f"{speed['first_sound_seconds']:.2f}"),
    ]
