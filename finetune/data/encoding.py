"""
Waveforms to codes with a processor's codec, several at once; and a fingerprint of the codec, by which codes of another
one are refused.

A waveform has the same codes in a batch as alone, which a test holds. Depends on the codec's interface.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from processing_ttt import TttProcessor
from processing_ttt.codec_adapter_ttt import CodecAdapter

from .schema import read_info

logger = logging.getLogger(__name__)

PADDING_CODE = -1
DECODING_PARTS = ("decoder.", "vocoder.")  # of transformers' codecs and of this project's


def codec_fingerprint(processor: TttProcessor) -> str:
    """
    Hash what decides the codes of a waveform: a codec's weights, its rates and the size of its codebook. Parts that
    only decode (`decoder`, `vocoder`) do not count: they may be trained on without a change of any code.

    Args:
        processor ([`TttProcessor`]): Its codec is loaded.

    Returns:
        `str`: The same for the same codec, wherever it is stored.
    """
    codec, config = processor.codec, processor.codec_config
    model = codec.model if isinstance(codec, CodecAdapter) else codec
    digest = hashlib.sha256(f"{config.sampling_rate} {config.frame_rate} {config.codebook_size}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(DECODING_PARTS):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def require_codes_of(processor: TttProcessor, folders: Iterable[Path], model: str) -> None:
    """
    Check that prepared data has the codes of a model's codec. If this codec is not at hand, only a warning says so.

    Args:
        processor ([`TttProcessor`]): The model's; its codec is loaded.
        folders (iterable of `Path`): Of the data.
        model (`str`): The model's name, for the error.

    Raises:
        ValueError: If codes are of another codec.
    """
    try:
        fingerprint = codec_fingerprint(processor)
    except (OSError, ValueError) as error:
        logger.warning("Whether the codes are of the model's codec is not checked: it cannot be loaded (%s).", error)
        return
    for folder in folders:
        info = read_info(folder)
        if info.codec_fingerprint != fingerprint:
            raise ValueError(
                f"{str(folder)!r} has codes of {info.codec}, which is another codec than that of {model!r}: prepare it "
                f"anew with `ttt prepare --model {model}`."
            )


def encode_waveforms(
    processor: TttProcessor, waveforms: Sequence[np.ndarray], batch_size: int
) -> list[list[int] | Exception]:
    """
    Encode waveforms, those of similar length together.

    Args:
        processor ([`TttProcessor`]): Whose codec.
        waveforms (sequence of `np.ndarray` of shape `(samples,)`, float32): At the codec's input rate.
        batch_size (`int`): Waveforms encoded together. On a CPU one at a time is fastest, on a GPU more are.

    Returns:
        `list`: The codes of each waveform, in order; for one that the codec refuses, its exception.
    """
    encoded: list[list[int] | Exception] = [[] for _ in waveforms]
    by_length = sorted(range(len(waveforms)), key=lambda index: len(waveforms[index]))
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        try:
            results: list[list[int] | Exception] = list(_encode_batch(processor, [waveforms[index] for index in batch]))
        except Exception:  # encode each alone to find the one that fails
            results = [_encode_alone(processor, waveforms[index]) for index in batch]
        for index, result in zip(batch, results, strict=True):
            encoded[index] = result
    return encoded


@torch.inference_mode()
def _encode_batch(processor: TttProcessor, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
    codec = processor.codec
    if len(waveforms) == 1:
        return [codec.encode(torch.from_numpy(waveforms[0])[None, None].to(codec.device)).audio_codes[0, 0].tolist()]
    values = torch.zeros(len(waveforms), 1, max(map(len, waveforms)))
    padding_mask = torch.zeros(len(waveforms), values.shape[-1], dtype=torch.long)
    for index, waveform in enumerate(waveforms):
        values[index, 0, : len(waveform)] = torch.from_numpy(waveform)
        padding_mask[index, : len(waveform)] = 1
    codes = codec.encode(values.to(codec.device), padding_mask.to(codec.device)).audio_codes[:, 0].cpu()
    return [row[row != PADDING_CODE].tolist() for row in codes]


def _encode_alone(processor: TttProcessor, waveform: np.ndarray) -> list[int] | Exception:
    try:
        return _encode_batch(processor, [waveform])[0]
    except Exception as error:
        return error
