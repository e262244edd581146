"""Small recordings and manifests for the tests of `ttt prepare`."""

import json
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def tone(seconds: float, seed: int = 0, rate: int = RATE) -> np.ndarray:
    """Audio that is never silent, another one for each seed."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    voice = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(100, 3000, 4)) * np.sin(2 * np.pi * 3 * time) ** 2
    return (0.1 * voice + 0.01 * rng.standard_normal(len(time))).astype(np.float32)


def write_recordings(folder: Path, count: int) -> list[dict]:
    """Write wav files of different lengths, and give a manifest's records of them: three speakers in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", tone(0.3 + 0.05 * (number * 7 % 10), number), RATE)
        words = f"frase numero {number}"
        records.append({"audio": f"{number}.wav", "text": words, "language": "it", "speaker": f"s{number % 3}"})
    return records


def write_manifest(path: Path, records: list[dict]) -> Path:
    """Write records as JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def skipped(out: Path) -> dict[str, str]:
    """Reasons by id, as `skipped.jsonl` lists them."""
    lines = (out / "skipped.jsonl").read_text().splitlines()
    return {line["id"]: line["reason"] for line in map(json.loads, lines)}
