"""
Recordings of texts by natural synthetic voices, with a manifest for `ttt prepare`: speech for a language of which there
is little.

    python -m finetune.nano.speech.read_aloud texts.txt --language it --speakers if_sara im_nicola \
        --voices package/voices --out speech/it-synthetic

Each line of the file is read by every speaker, Kokoro's voices. In `--out`: WAV files of 16 kHz and `manifest.jsonl`,
whose lines have the times of the words where the synthesiser gives them. A run that was killed goes on with the same
command.

Depends on `kokoro.py` and the names of a manifest's fields. Independent of codecs and token ids.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import soundfile
from tqdm import tqdm

from .kokoro import KokoroModel, KokoroVoice
from .voices import SAMPLING_RATE, Utterance

MANIFEST = "manifest.jsonl"
ACCENTS = {"en": "en-us", "en-US": "en-us", "en-GB": "en-gb", "it": "it"}
LICENCE = {"licence": "Apache-2.0", "attribution": "Kokoro-82M, hexgrad"}


class Speaks(Protocol):
    """Who reads, see [`KokoroVoice`]."""

    name: str

    def speak(self, text: str) -> Utterance:
        """Speak a text."""


def read_aloud(texts: Sequence[str], voices: Sequence[Speaks], out: Path, language: str) -> list[str]:
    """
    Record what is not recorded yet.

    Args:
        texts (`Sequence[str]`): To be read, each by every voice.
        voices (`Sequence[Speaks]`): Who reads.
        out (`Path`): Gets the recordings and the manifest.
        language (`str`): Tag of the texts' language, for the manifest.

    Returns:
        `list[str]`: Texts that a voice cannot speak: without a word, or too long for it.
    """
    out.mkdir(parents=True, exist_ok=True)
    done = recorded(out / MANIFEST)
    unspoken: list[str] = []
    with (out / MANIFEST).open("a", encoding="utf-8") as manifest:
        for text, voice in tqdm([(text, voice) for text in dict.fromkeys(texts) for voice in voices], desc="texts"):
            name = f"{voice.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
            if name in done:
                continue
            try:
                spoken = voice.speak(text)
            except ValueError:
                unspoken.append(text)
                continue
            soundfile.write(out / f"{name}.wav", spoken.audio, SAMPLING_RATE)
            line = _line(name, text, language, voice.name, spoken)
            manifest.write(json.dumps(line, ensure_ascii=False) + "\n")
            manifest.flush()
    return list(dict.fromkeys(unspoken))


def recorded(manifest: Path) -> set[str]:
    """
    Find what a manifest has, and cut off a last line that a killed run did not finish.

    Args:
        manifest (`Path`): It need not be there.

    Returns:
        `set[str]`: Ids of its lines.
    """
    if not manifest.is_file():
        return set()
    whole = [line for line in manifest.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
    manifest.write_text("".join(whole), "utf-8")
    return {json.loads(line)["id"] for line in whole}


def _line(name: str, text: str, language: str, speaker: str, spoken: Utterance) -> dict[str, Any]:
    line: dict[str, Any] = {"id": name, "audio": f"{name}.wav", "text": text, "language": language, "speaker": speaker}
    if spoken.words:
        line["words"] = [
            {"word": word.text, "start": round(word.start, 4), "end": round(word.end, 4)} for word in spoken.words
        ]
    return line | LICENCE


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, help="text file, a sentence in each line")
    parser.add_argument("--language", choices=tuple(ACCENTS), required=True)
    parser.add_argument("--speakers", nargs="+", required=True, help="voices of Kokoro, such as if_sara")
    parser.add_argument("--voices", type=Path, required=True, help="folder voices of the npm package kokoro-js")
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    options = parser.parse_args(arguments)
    texts = [line.strip() for line in options.texts.read_text("utf-8").splitlines() if line.strip()]
    voice = partial(KokoroVoice, model=KokoroModel(options.voices), trimmed=True, accent=ACCENTS[options.language])
    unspoken = read_aloud(texts, [voice(name) for name in options.speakers], options.out, options.language)
    print(f"{len(recorded(options.out / MANIFEST))} recordings in {options.out}.")
    for text in unspoken:
        print(f"Not spoken, because it has no word or is too long: {text!r}")


if __name__ == "__main__":
    main()
