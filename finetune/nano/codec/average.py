"""
A codec that encodes as one and decodes as the mean of two, of which one began where the other ended.

    python -m finetune.nano.codec.average --encoder runs/codes/export --with runs/voice/export --share 0.75 \\
        --out runs/codec

A decoder that learns the codes of another encoder decodes the old ones less clearly; the mean of its weights before and
after keeps most of both.

Depends on the codec alone.
"""

import argparse
from pathlib import Path

import torch

from processing_ttt.codec_ttt import TttCodecModel

from .codec_stage import export


@torch.no_grad()
def average(codec: TttCodecModel, other: TttCodecModel, share: float) -> TttCodecModel:
    """
    Average the decoder and the vocoder of two codecs.

    Args:
        codec ([`TttCodecModel`]): Its encoder stays; it is changed.
        other ([`TttCodecModel`]): Of the same geometry.
        share (`float`): 0 to 1, of `other` in the mean.

    Returns:
        [`TttCodecModel`]: `codec`.

    Raises:
        ValueError: If the share is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` is from 0 to 1, but is {share}.")
    weights = other.state_dict()
    for name, own in codec.state_dict().items():
        if not name.startswith("encoder."):
            own.lerp_(weights[name], share)
    return codec


def main() -> None:
    """Command line: see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the codec whose encoder stays")
    parser.add_argument("--with", type=Path, required=True, dest="other", help="folder of the other one")
    parser.add_argument("--share", type=float, default=0.5, help="of the other one in the mean")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    codec, other = (TttCodecModel.from_pretrained(folder).eval() for folder in (options.encoder, options.other))
    export(average(codec, other, options.share), options.out)


if __name__ == "__main__":
    main()
