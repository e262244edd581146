"""
The measured tables of docs/nano.md, of which nano's model card repeats some lines.

Depends on what `model.measure` returns. Measures nothing.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

HELD_OUT = {
    "unseen_sentence": "known fact, unseen pair of fact and wording",
    "unseen_template": "known fact, unseen wording",
    "unseen_fact": "unseen fact",
}
SEEN = "train"
SPEECH = {
    "reply, against its own text": "spoken replies, against their own text",
    "reply, against the right answer": "spoken replies, against the right answer",
    "speak, unseen answers": "unseen answers read aloud",
    "answers, the synthesiser itself": "– by the synthesiser",
    "answers, the synthesiser through the codec": "– by the synthesiser, through the codec",
    "speak, unseen general English": "unseen general English read aloud",
    "general English, the synthesiser itself": "– by the synthesiser",
    "general English, the synthesiser through the codec": "– by the synthesiser, through the codec",
}
BIGRAM, ENGLISH, WHISPER, OPINION = "domain bigram", "general English", "Whisper base", "DNSMOS"


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
    Write the measured tables: answers, speech, transcription, speed, and answers by kind of question.

    Args:
        result (`dict`): What `measure` returned.

    Returns:
        `str`: Markdown, an empty line between two tables.
    """
    speed = result["speed"]
    timed = f"speed, one question at a time, waveform to waveform, median, {speed['threads']} thread(s)"
    tables = [
        _table(["answers", "text exactly right"], _answer_rows(result)),
        _table(
            ["speech", "pocketsphinx, domain bigram", "pocketsphinx, general English", WHISPER, OPINION],
            _speech_rows(result),
        ),
        _table(["transcription", "WER"], _transcription_rows(result)),
        _table(
            [timed, "measured"],
            [
                ("real-time factor", f"{speed['real_time_factor']:.2f}"),
                ("seconds to the first audio of a stream", f"{speed['first_audio_seconds']:.2f}"),
            ],
        ),
        _table(
            ["kind, held-out", "n", "answer exact", "question transcribed exactly", "wrong answers belong to"],
            _kind_rows(result),
        ),
    ]
    return "\n\n".join(tables)


def held_out_answers(result: dict[str, Any]) -> tuple[float, int]:
    """
    Count the right answers to all held-out questions.

    Args:
        result (`dict`): What `measure` returned.

    Returns:
        `tuple[float, int]`: The share that is exactly right, and the number of questions.
    """
    splits = [result["answer by split"][name] for name in HELD_OUT]
    count = sum(split["n"] for split in splits)
    return sum(split["exact"] * split["n"] for split in splits) / count, count


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


def _answer_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    splits, noise, talks = result["answer by split"], result["answer in noise"], result["talks"]
    repeat = result["repeat"]
    return [
        ("held-out spoken questions", share_of(*held_out_answers(result))),
        *((f"– {label}", _counted(splits[name])) for name, label in HELD_OUT.items()),
        *((f"– voice {name}", _counted(voice)) for name, voice in result["answer by voice"].items()),
        (f"– noise at 10 dB SNR (the same questions without: {noise['quiet']:.3f})", _counted(noise)),
        ("seen question, new recording", _counted(splits[SEEN])),
        ("second turn about the first answer, unseen wording", _counted(result["second turn"])),
        (
            f"conversation of four unrelated questions, by turn (n = {talks['n']})",
            ", ".join(f"{share:.2f}" for share in talks["exact by turn"]),
        ),
        ('"Repeat after me", unseen general English', f"{_counted(repeat)}; WER {repeat['wer']:.3f}"),
    ]


def _speech_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            label,
            *(_errors(result[name].get(judge)) for judge in (BIGRAM, ENGLISH, WHISPER)),
            f"{result[name][OPINION]['overall']:.2f}" if OPINION in result[name] else "–",
        )
        for name, label in SPEECH.items()
    ]


def _errors(judged: dict[str, float] | None) -> str:
    """WER / CER, where a judge was asked: one has a language model of the domain alone, and one may be missing."""
    return f"{judged['wer']:.3f} / {judged['cer']:.3f}" if judged else "–"


def _transcription_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    voices = result["hear, general English, by voice"]
    return [
        (
            "questions, unseen / seen",
            f"{_wer(result, 'hear, unseen questions')} / {_wer(result, 'hear, seen questions')}",
        ),
        ("unseen general English", _wer(result, "hear, general English")),
        (f"– {', '.join(voices)}", ", ".join(f"{voice['wer']:.3f}" for voice in voices.values())),
    ]


def _kind_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    transcribed, wrong = result["hear, unseen questions, exact by kind"], result["wrong answers by kind"]
    return [
        (
            kind,
            str(answers["n"]),
            f"{answers['exact']:.2f}",
            f"{transcribed[kind]:.2f}",
            ", ".join(f"{other} {count}" for other, count in wrong[kind].items()) or "–",
        )
        for kind, answers in result["answer by kind"].items()
    ]


def share_of(share: float, count: int) -> str:
    """Write a share that was counted, with its interval: `0.977 (0.963 to 0.986, n = 700)`."""
    low, high = interval(share, count)
    return f"{share:.3f} ({low:.3f} to {high:.3f}, n = {count})"


def _counted(result: dict[str, Any]) -> str:
    return share_of(result["exact"], int(result["n"]))


def _wer(result: dict[str, Any], name: str) -> str:
    return f"{result[name]['wer']:.3f}"
