"""
Recorded English beside nano's synthetic voices: the telephone prompts that Debian packages, as a corpus in the format
of `synthesise.py`.

    # fetches them; each line has their licence and speaker
    python -m finetune.data.asterisk_prompts en --out prompts
    python -m finetune.nano.speech.recorded --prompts prompts/manifest.jsonl --out data/recorded

One speaker, some 500 prompts of up to twelve seconds. Those whose words a hash of the text holds out keep their own
pace and split "test" (to measure) or "dev" (to choose by); the others come at several speeds (the pitch changes too),
each a row of split "train". Digits are written as words, as nano writes them.

Depends on the manifest and the shards' format. Independent of codecs and token ids.
"""

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from finetune.nano.domain.spoken_numbers import number_words
from processing_ttt.audio_input_ttt import load_audio
from processing_ttt.resampling_ttt import resample

from .jobs import share_of
from .synthesise import UTTERANCES_PER_SHARD, save_shard
from .voices import SAMPLING_RATE

TEST_SHARE, DEV_SHARE = 0.15, 0.08
SPEEDS = (1.0, 0.9, 1.1, 0.95, 1.05)
LONGEST_SECONDS = 12.0
_PLAIN = re.compile(r"[A-Za-z][A-Za-z' ,.?!-]*")


def spoken_text(transcript: str) -> str | None:
    """
    Write a transcript as nano writes: ASCII, digits in words.

    Args:
        transcript (`str`): Of a prompt.

    Returns:
        `str` or `None`: None where anything but words, digits and plain punctuation is left.
    """
    words = re.sub(r"(?<![\w.,])\d{1,2}(?!\w|[.,]\d)", lambda digits: number_words(int(digits[0])), transcript)
    words = " ".join(words.replace("...", ".").split())
    return words[0].upper() + words[1:] if _PLAIN.fullmatch(words) else None


def utterances(manifest: Path) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """
    Read the prompts, held-out ones once and the others at every speed, all prompts at one speed before the next.

    Args:
        manifest (`Path`): Written by `finetune.data.asterisk_prompts`.

    Yields:
        `tuple[dict, np.ndarray]`: Index line without `start`, `samples` and `words`, and float32 `(samples,)` at 16
        kHz.
    """
    prompts = [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]
    for speed in SPEEDS:
        for prompt in prompts:
            text = spoken_text(prompt["text"])
            if text is None:
                continue
            split = split_of(text)
            if split != "train" and speed != 1.0:
                continue
            audio = load_audio(manifest.parent / prompt["audio"], SAMPLING_RATE)
            if len(audio) > LONGEST_SECONDS * SAMPLING_RATE:
                continue
            line = {
                "id": f"{prompt['id']}@{speed}",
                "voice": prompt["speaker"],
                "stretch": round(1 / speed, 3),
                "text": text,
            }
            yield line | {"split": split, "kind": "recorded", "answer": text}, at_speed(audio, speed)


def split_of(text: str) -> str:
    """Give the split of a text, by a hash of it: "test", "dev" or "train"."""
    share = share_of(text)
    return "test" if share < TEST_SHARE else "dev" if share < TEST_SHARE + DEV_SHARE else "train"


def at_speed(audio: np.ndarray, speed: float) -> np.ndarray:
    """Play a recording, float32 `(samples,)`, faster or slower, with its pitch."""
    if speed == 1.0:
        return audio
    return resample(audio, round(100 * speed), 100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write recorded English as a corpus of nano.")
    parser.add_argument("--prompts", type=Path, required=True, help="manifest of finetune.data.asterisk_prompts")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    options = parser.parse_args(arguments)
    if list(options.out.glob("shard-*")):
        parser.error(f"{options.out} holds shards already: remove them, or choose another --out.")
    options.out.mkdir(parents=True, exist_ok=True)
    found = list(tqdm(utterances(options.prompts), desc="recorded", unit="prompt"))
    for start in range(0, len(found), UTTERANCES_PER_SHARD):
        save_shard(
            found[start : start + UTTERANCES_PER_SHARD], options.out / f"shard-{start // UTTERANCES_PER_SHARD:05d}.npy"
        )


if __name__ == "__main__":
    main()
