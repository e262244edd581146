"""
Nano's speech as codes: a file of codes for each shard of a corpus.

Depends on the folders that `synthesise.py` writes and on the codec. Independent of token ids.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from finetune.nano.speech.acoustics import as_recorded_with_silence, with_surroundings
from processing_ttt.codec_ttt import TttCodecModel


def read_shards(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]], np.ndarray]]:
    """Give name, index and samples of every finished shard of a corpus."""
    for index in sorted(folder.glob("shard-*.jsonl")):
        lines = [json.loads(line) for line in index.read_text().splitlines()]
        yield index.stem, lines, np.load(index.with_suffix(".npy"), mmap_mode="r")


@torch.inference_mode()
def encode_corpus(
    codec: TttCodecModel, folder: Path, out: Path, varied: bool, batch_size: int = 16, variation: int = 0
) -> None:
    """
    Write the codes of a corpus, a file per shard; shards that are there already, with the same utterances, are left
    alone.

    Args:
        codec (`TttCodecModel`): The codec, final.
        folder (`Path`): A corpus of `synthesise.py`.
        out (`Path`): Gets `shard-00000.jsonl` with the corpus' fields and `codes`.
        varied (`bool`): Vary room, noise and level, as a microphone would (questions); otherwise as it is (answers).
        batch_size (`int`, *optional*, defaults to 16): Utterances encoded together.
        variation (`int`, *optional*, defaults to 0): If `varied`, each number gives other rooms, noises and levels;
            from 1 on also telephones, clipping and stronger noise.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, lines, samples in tqdm(list(read_shards(folder)), desc=f"encode {folder.name}", unit="shard"):
        if _uncoded(out / f"{name}.jsonl") == lines:
            continue
        number = int(name.split("-")[1])
        # Seeded by the shard alone: the first variation gives the same codes however many others there are.
        rng = np.random.default_rng([number, variation] if variation else number)
        disturb = as_recorded_with_silence if variation else with_surroundings
        order = sorted(range(len(lines)), key=lambda i: lines[i]["samples"])
        for start in range(0, len(order), batch_size):
            batch = [lines[i] for i in order[start : start + batch_size]]
            waveforms = [
                samples[line["start"] : line["start"] + line["samples"]].astype(np.float32) / 32768 for line in batch
            ]
            if varied:
                waveforms = [disturb(audio, rng) for audio in waveforms]
            for line, codes in zip(batch, encode(codec, waveforms), strict=True):
                line["codes"] = codes
        temporary = out / f"{name}.tmp"
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
        temporary.rename(out / f"{name}.jsonl")


def _uncoded(path: Path) -> list[dict[str, Any]] | None:
    """The index that codes were made of: that of the last shard changes when its corpus grows."""
    if not path.exists():
        return None
    return [
        {name: value for name, value in json.loads(line).items() if name != "codes"}
        for line in path.read_text().splitlines()
    ]


def encode(codec: TttCodecModel, waveforms: list[np.ndarray]) -> list[list[int]]:
    """Give the codes of some waveforms, float32 at the codec's rate, encoded as one padded batch."""
    values = torch.zeros(len(waveforms), 1, max(map(len, waveforms)))
    padding_mask = torch.zeros(len(waveforms), values.shape[-1], dtype=torch.long)
    for row, audio in enumerate(waveforms):
        values[row, 0, : len(audio)] = torch.from_numpy(audio)
        padding_mask[row, : len(audio)] = 1
    encoded = codec.encode(values, padding_mask).audio_codes
    assert encoded is not None
    codes = encoded[:, 0]
    samples_per_code = codec.config.sampling_rate / codec.config.frame_rate
    return [
        row[: int(np.ceil(len(audio) / samples_per_code))].tolist() for row, audio in zip(codes, waveforms, strict=True)
    ]


def read_codes(folder: Path) -> list[dict[str, Any]]:
    """Read what `encode_corpus` wrote."""
    return [json.loads(line) for path in sorted(folder.glob("shard-*.jsonl")) for line in path.read_text().splitlines()]
