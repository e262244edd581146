"""
How well the end of a spoken question is detected when its speaker pauses inside it, in quiet and in noise.

    python benchmarks/turn_detection.py --speech data/nano/natural-dev --out benchmarks/results/turn_detection.json

Takes the questions of a corpus of `finetune.nano.speech.natural`, cuts each at its quietest place near the middle, and
puts a pause there; the pause and the silence around the question have a faint noise, and all of it the noise that is
asked for. Silero's detector, as the page and `/v1/realtime` use it, then looks at the audio as the page's microphone
sends it, six windows at a time. The last speech of a recording is found by its level, before noise is added.

A turn is cut if it ends before the last speech, and missed if it has not ended three seconds after it. The delay is
that from the last speech to the end of the turn, of the turns that are neither. It is a time of the audio, and does not
depend on the machine.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from finetune.nano.speech.acoustics import with_noise
from finetune.nano.speech.synthesise import read_corpus
from spaces_demo.service.turn_detection import END_WINDOWS, INITIAL_STATE, SAMPLING_RATE, WINDOW, speech_probabilities

PAUSES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # seconds
NOISES_DB = (None, 20.0, 10.0, 5.0)  # power of the speech over that of the noise
HOLDS = (16, 22, 28, END_WINDOWS, 42)  # windows of silence that end a turn
WINDOWS_PER_CALL = 6  # of the page's microphone
BEFORE, AFTER = 0.6, 3.0  # seconds around a question
FLOOR = 1e-4  # standard deviation of a quiet microphone's noise
QUIET = 0.02  # of the loudest sample: below is no speech


def with_pause(samples: np.ndarray, seconds: float, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """
    Put a pause into a question, and silence around it.

    Args:
        samples (`np.ndarray` of shape `(samples,)`, float32): A question at 16 kHz.
        seconds (`float`): Length of the pause.
        rng (`np.random.Generator`): Draws the faint noise.

    Returns:
        `tuple`: Audio of whole windows, float32, and when its last speech ends, in seconds.
    """
    third = len(samples) // 3
    loudness = np.convolve(np.abs(samples[third : 2 * third]), np.ones(SAMPLING_RATE // 20), "same")
    at = third + int(loudness.argmin())
    before, pause, after = (np.zeros(round(part * SAMPLING_RATE), np.float32) for part in (BEFORE, seconds, AFTER))
    audio = np.concatenate([before, samples[:at], pause, samples[at:], after])
    last = np.flatnonzero(np.abs(audio) > QUIET * np.abs(audio).max())[-1] + 1
    whole = len(audio) // WINDOW * WINDOW
    audio += rng.normal(0, FLOOR, len(audio)).astype(np.float32)
    return audio[:whole], float(last) / SAMPLING_RATE


def turn_ends(probabilities: Sequence[float], windows: int) -> float | None:
    """
    Find when a turn is known to be over.

    Args:
        probabilities (`Sequence[float]`): Of speech, in each window.
        windows (`int`): Of silence, that end a turn.

    Returns:
        `float`, *optional*: Seconds, where a call of the microphone ends; nothing if the turn has not ended.
    """
    state = INITIAL_STATE
    for probability in probabilities:
        state = state.after(probability)
        if state.num_windows % WINDOWS_PER_CALL == 0 and state.begin is not None and state.silence_run >= windows:
            return state.num_windows * WINDOW / SAMPLING_RATE
    return None


def measure(questions: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Detect the end of every question with every pause in every noise; return one row for each with each hold."""
    rows = []
    for noise in NOISES_DB:
        for pause in PAUSES:
            rng = np.random.default_rng(0)
            detected = []
            for samples in questions:
                audio, last = with_pause(samples, pause, rng)
                if noise is not None:
                    audio = with_noise(audio, noise, float(np.sqrt(np.mean(samples**2))), rng)
                detected.append((speech_probabilities(audio.astype(np.float32))[0], last))
            rows += [{"noise_db": noise, "pause": pause} | judged(detected, windows) for windows in HOLDS]
            print(json.dumps(rows[-len(HOLDS) + HOLDS.index(END_WINDOWS)]), flush=True)
    return rows


def judged(detected: Sequence[tuple[Sequence[float], float]], windows: int) -> dict[str, Any]:
    """Count what is cut and missed of (probabilities of speech, end of the last speech) with one hold."""
    ends = [(turn_ends(probabilities, windows), last) for probabilities, last in detected]
    delays = sorted(end - last for end, last in ends if end is not None and end >= last)
    return {
        "hold": round(windows * WINDOW / SAMPLING_RATE, 3),
        "cut": round(sum(end is not None and end < last for end, last in ends) / len(ends), 4),
        "missed": round(sum(end is None for end, _ in ends) / len(ends), 4),
        "delay": round(statistics.median(delays), 3) if delays else None,
        "delay_90": round(delays[int(0.9 * len(delays))], 3) if delays else None,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Write the share of cut questions in quiet, by hold and pause, and the median delay, as a Markdown table."""
    lines = ["| hold, s | 0.4 s | 0.6 s | 0.8 s | 1.0 s | delay, s |", "|---|---|---|---|---|---|"]
    for windows in HOLDS:
        hold = round(windows * WINDOW / SAMPLING_RATE, 3)
        found = {row["pause"]: row for row in rows if row["noise_db"] is None and row["hold"] == hold}
        cut = " | ".join(f"{100 * found[pause]['cut']:.0f} %" for pause in PAUSES[2:])
        lines.append(f"| {hold:.2f} | {cut} | {found[0.0]['delay']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="a corpus of finetune.nano.speech.natural")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    corpus = [(line, audio.astype(np.float32) / 32768) for line, audio in read_corpus(options.speech)]
    questions = [audio for line, audio in corpus if line["kind"] != "phrase"]
    if not questions:
        parser.error(f"{options.speech} has no questions: it should be a folder of finetune.nano.speech.natural.")
    rows = measure(questions)
    print(table(rows))
    if options.out:
        options.out.write_text(json.dumps({"questions": len(questions), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
