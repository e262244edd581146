"""
A small network that transcribes the digits of a codec's codes, character by character: it is trained with them, so that
they keep the words.

Depends on the codec's layers. Independent of audio, and of how digits are chosen.
"""

import re
import string
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from processing_ttt.codec_layers_ttt import TttCodecBlock
from processing_ttt.codec_ttt import TttCodecConfig

CHARACTERS = " '" + string.ascii_lowercase  # 0 is CTC's blank
OUTPUTS_PER_CODE = 2  # fast speech has up to twenty characters in a second of 25 codes
LAYERS = 3


class Transcriber(nn.Module):
    """
    Chosen digits `(batch, codes, sum(fsq_levels))` -> log-probabilities of characters `(batch, codes *
    OUTPUTS_PER_CODE, characters)`, for CTC.

    Args:
        config ([`TttCodecConfig`]): Of the codec.
    """

    def __init__(self, config: TttCodecConfig):
        super().__init__()
        size, kernel = config.hidden_size, config.kernel_size
        block = (size, config.intermediate_size, kernel, kernel // 2, config.layer_scale_init_value)
        self.input_proj = nn.Linear(sum(config.fsq_levels), size)
        self.layers = nn.ModuleList(TttCodecBlock(*block) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(size)
        self.output_proj = nn.Linear(size, OUTPUTS_PER_CODE * (1 + len(CHARACTERS)))

    def forward(self, digits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """See the class for shapes; `mask` `(batch, codes, 1)` is 0 after the end of a shorter row."""
        hidden_states = self.input_proj(digits) * mask
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask)
        logits = self.output_proj(self.norm(hidden_states)).float()
        return logits.reshape(len(digits), -1, 1 + len(CHARACTERS)).log_softmax(-1)


def characters(text: str) -> str:
    """The part of a text that is transcribed: lower-case letters, apostrophes, and spaces between words."""
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


def words_loss(log_probabilities: torch.Tensor, row_frames: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
    """
    CTC's loss per character, the mean over rows.

    Args:
        log_probabilities (`torch.FloatTensor` of shape `(batch, codes * OUTPUTS_PER_CODE, characters)`): From
            [`Transcriber`].
        row_frames (`torch.LongTensor` of shape `(batch,)`): Codes of each row.
        texts (`Sequence[str]`): What the rows should say; one that is too long for its codes does not count.

    Returns:
        `torch.FloatTensor`: The loss.
    """
    ids = [[1 + CHARACTERS.index(character) for character in characters(text)] for text in texts]
    targets, lengths = torch.tensor([number for row in ids for number in row]), torch.tensor([len(row) for row in ids])
    inputs = log_probabilities.transpose(0, 1)
    return F.ctc_loss(inputs, targets, OUTPUTS_PER_CODE * row_frames, lengths, zero_infinity=True)


def transcribed(log_probabilities: torch.Tensor, row_frames: torch.Tensor) -> list[str]:
    """The most probable character of every output, repetitions and blanks left out; arguments as for `words_loss`."""
    texts = []
    for row, count in zip(log_probabilities.argmax(-1), OUTPUTS_PER_CODE * row_frames, strict=True):
        kept = torch.unique_consecutive(row[:count]).tolist()
        texts.append(" ".join("".join(CHARACTERS[number - 1] for number in kept if number).split()))
    return texts
