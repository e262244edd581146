"""
Sounds to codes with a processor's codec, several at once; and which codec it was.

Knows the codec's interface. A sound has the same codes in a batch as alone: the codecs are exact, and a test holds
that.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from processing_ttt import TttProcessor
from processing_ttt.codec_adapter_ttt import CodecAdapter

PADDING_CODE = -1


ONLY_SPEAKS = ("decoder.", "vocoder.")  # of transformers' codecs and of ours


def codec_fingerprint(processor: TttProcessor) -> str:
    """
    Hash what decides the codes of a sound: a codec's weights, its rates and the size of its codebook. Parts that only
    speak (`decoder`, `vocoder`) do not count: they may be trained on without a change of any code.

    Args:
        processor ([`TttProcessor`]): Its codec is loaded.

    Returns:
        `str`: The same for the same codec, wherever it lies.
    """
    codec, config = processor.codec, processor.codec_config
    model = codec.model if isinstance(codec, CodecAdapter) else codec
    digest = hashlib.sha256(f"{config.sampling_rate} {config.frame_rate} {config.codebook_size}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(ONLY_SPEAKS):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def encode_sounds(
    processor: TttProcessor, sounds: Sequence[np.ndarray], batch_size: int
) -> list[list[int] | Exception]:
    """
    Turn sounds into codes, those of like length together.

    Args:
        processor ([`TttProcessor`]): Whose codec.
        sounds (sequence of `np.ndarray` of shape `(samples,)`, float32): At the rate that the codec hears.
        batch_size (`int`): Sounds encoded together. On a CPU one at a time is fastest, on a GPU more are.

    Returns:
        `list`: The codes of each sound, in order; for one that the codec refuses, its exception.
    """
    encoded: list[list[int] | Exception] = [[] for _ in sounds]
    by_length = sorted(range(len(sounds)), key=lambda index: len(sounds[index]))
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        try:
            results: list[list[int] | Exception] = list(_encode_batch(processor, [sounds[index] for index in batch]))
        except Exception:  # one sound must not take the others with it: each alone says which it was
            results = [_encode_alone(processor, sounds[index]) for index in batch]
        for index, result in zip(batch, results, strict=True):
            encoded[index] = result
    return encoded


@torch.inference_mode()
def _encode_batch(processor: TttProcessor, sounds: Sequence[np.ndarray]) -> list[list[int]]:
    codec = processor.codec
    if len(sounds) == 1:
        return [codec.encode(torch.from_numpy(sounds[0])[None, None].to(codec.device)).audio_codes[0, 0].tolist()]
    values = torch.zeros(len(sounds), 1, max(map(len, sounds)))
    padding_mask = torch.zeros(len(sounds), values.shape[-1], dtype=torch.long)
    for row, sound in enumerate(sounds):
        values[row, 0, : len(sound)] = torch.from_numpy(sound)
        padding_mask[row, : len(sound)] = 1
    codes = codec.encode(values.to(codec.device), padding_mask.to(codec.device)).audio_codes[:, 0].cpu()
    return [row[row != PADDING_CODE].tolist() for row in codes]


def _encode_alone(processor: TttProcessor, sound: np.ndarray) -> list[int] | Exception:
    try:
        return _encode_batch(processor, [sound])[0]
    except Exception as error:
        return error
