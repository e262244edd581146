"""
Recorded speech that anyone may use: the telephone prompts of Asterisk, read by professional speakers, as Debian
packages them.

    # fetches both packages through apt; needs no root
    python -m finetune.data.asterisk_prompts it --out speech/italian
    # or takes them from where they are installed
    python -m finetune.data.asterisk_prompts it --out speech/italian --root /

About 570 prompts and half an hour in each language (en, es, fr, it, ru), one speaker each, 16 kHz. It writes
`manifest.jsonl` for `ttt prepare`, each line with its licence and whom to credit. Prompts that are no speech (tones,
silence) or whose transcript has other words (remarks in brackets, damaged letters) are left out and counted;
digits in a transcript ("premere 1") stay digits.

Depends on the packages' files. Independent of codecs and tokens.
"""

import argparse
import gzip
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from email.parser import Parser
from pathlib import Path

from .schema import replace_text

LANGUAGES = ("en", "es", "fr", "it", "ru")
NOT_SPEECH = ("beep", "beeperr", "ascending-2tone", "descending-2tone", "confbridge-join", "confbridge-leave")
MANIFEST = "manifest.jsonl"

_DAMAGED = re.compile(r"\?\s*[a-zà-ÿа-яё]|\ufffd")  # "sar? esattamente": a question mark amid a sentence


def fetch(language: str, folder: Path) -> Path:
    """
    Download the two packages of a language and unpack them; nothing is installed.

    Args:
        language (`str`): One of `LANGUAGES`.
        folder (`Path`): Gets `packages` and `root`.

    Returns:
        `Path`: The root they were unpacked into.

    Raises:
        FileNotFoundError: If apt is not there.
        OSError: If apt cannot fetch or unpack them.
    """
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is not on this machine: unpack asterisk-core-sounds-{language} and "
            f"asterisk-core-sounds-{language}-g722 of Debian elsewhere, and give the folder as --root."
        )
    packages, root = folder / "packages", folder / "root"
    packages.mkdir(parents=True, exist_ok=True)
    for package in (f"asterisk-core-sounds-{language}", f"asterisk-core-sounds-{language}-g722"):
        if not list(packages.glob(f"{package}_*.deb")):
            _run(["apt-get", "download", package], packages)
        for file in packages.glob(f"{package}_*.deb"):
            _run(["dpkg-deb", "-x", str(file.resolve()), str(root.resolve())], packages)
    return root


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603 - a list, no shell
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(f"`{' '.join(command)}` failed ({last}): `apt-get update` may be needed first.")


def read_transcripts(text: str) -> Iterator[tuple[str, str]]:
    """
    Read a transcript file: `name: words`, comments after `;`.

    Args:
        text (`str`): The file.

    Yields:
        `tuple[str, str]`: Name of the prompt, and its words with single spaces.
    """
    for line in text.splitlines():
        name, colon, words = line.partition(":")
        name, words = name.strip(), " ".join(words.split())
        if colon and name and not name.startswith(";"):
            yield name, words.removeprefix(f"{name}:").strip()


def unusable(name: str, words: str) -> str | None:
    """
    Give the reason why a prompt cannot be learnt from.

    Args:
        name (`str`): Of the prompt.
        words (`str`): Its transcript.

    Returns:
        `str` or `None`: The reason.
    """
    if name in NOT_SPEECH or name.startswith("silence/"):
        return "no speech"
    if not words:
        return "no transcript"
    if re.search(r"[(\[<]", words):
        return "a remark in the transcript"
    return "damaged letters in the transcript" if _DAMAGED.search(words) else None


def licence(copyright_text: str, language: str) -> dict[str, str]:
    """
    Find licence and holder of a language's recordings in Debian's copyright file.

    Args:
        copyright_text (`str`): The file, in Debian's machine-readable format.
        language (`str`): One of `LANGUAGES`.

    Returns:
        `dict[str, str]`: `licence` and `attribution`.

    Raises:
        ValueError: If the file names no licence for them.
    """
    stanzas = [Parser().parsestr(stanza) for stanza in re.split(r"\n\s*\n", copyright_text)]
    for pattern in (f"{language}-*", "*"):
        for stanza in stanzas:
            if pattern in (stanza["Files"] or "").split() and stanza["License"]:
                holder = " ".join((stanza["Copyright"] or "").split())
                return {"licence": stanza["License"].splitlines()[0], "attribution": holder}
    raise ValueError(f"The copyright file names no licence for {language!r}.")


def write_manifest(language: str, root: Path, out: Path) -> Counter[str]:
    """
    Write `manifest.jsonl` of a language's prompts.

    Args:
        language (`str`): One of `LANGUAGES`.
        root (`Path`): Where the packages are unpacked or installed.
        out (`Path`): Folder of the manifest.

    Returns:
        `Counter[str]`: How many prompts were written, and how many left out by reason.

    Raises:
        FileNotFoundError: If the packages' files are not under `root`.
    """
    sounds = sorted((root / "usr/share/asterisk/sounds").glob(f"{language}_*_*"))
    documents = root / f"usr/share/doc/asterisk-core-sounds-{language}"
    if not sounds or not (documents / f"core-sounds-{language}.txt.gz").is_file():
        raise FileNotFoundError(
            f"{str(root)!r} holds no unpacked asterisk-core-sounds-{language} and "
            f"asterisk-core-sounds-{language}-g722: --root is the folder that has usr/share in it."
        )
    voice = sounds[0]
    terms = licence((documents / "copyright").read_text("utf-8"), language)
    with gzip.open(documents / f"core-sounds-{language}.txt.gz", "rt", encoding="utf-8-sig") as file:
        transcripts = dict(read_transcripts(file.read()))
    counts: Counter[str] = Counter()
    lines = []
    for name, words in sorted(transcripts.items()):
        path = (voice / f"{name}.g722").resolve()
        reason = unusable(name, words) or (None if path.is_file() else "no recording")
        counts[reason or "written"] += 1
        if reason is None:
            audio = path.relative_to(out.resolve()) if path.is_relative_to(out.resolve()) else path
            line = {
                "id": name,
                "audio": str(audio),
                "text": words,
                "language": language,
                "speaker": voice.name.split("_")[-1],
            }
            lines.append(json.dumps(line | terms, ensure_ascii=False) + "\n")
    replace_text(out / MANIFEST, "".join(lines))
    return counts


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description="Make a manifest of Asterisk's recorded prompts.")
    parser.add_argument("language", choices=LANGUAGES)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the manifest, and for the packages if they are fetched"
    )
    parser.add_argument(
        "--root", type=Path, help="where the packages are unpacked or installed; without it apt fetches them"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    root = options.root or fetch(options.language, options.out)
    counts = write_manifest(options.language, root, options.out)
    for reason, count in counts.most_common():
        sys.stdout.write(f"{count:5} {reason}\n")


if __name__ == "__main__":
    main()
