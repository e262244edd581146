"""
Reading aloud with the text given: a system speaks it, and may not write it otherwise.

The diffusing systems have this in `generate` (`reply_text_ids`). An autoregressive one gets the same rule as a logits
processor: while a span is open, any audio token; else what `ExactTextLogitsProcessor` allows.

Depends on token ids. Independent of systems and audio.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import LogitsProcessor

from modeling_ttt import TttConfig
from modeling_ttt.exact_text_ttt import ExactTextLogitsProcessor
from processing_ttt.vocabulary_ttt import TttVocabulary


@dataclass(frozen=True)
class GivenText:
    """
    The texts of a batch of replies.

    Args:
        texts (`Sequence[list[int]]`): Ids of the text of each reply.
        vocabulary (`TttVocabulary`): The markers.
    """

    texts: Sequence[list[int]]
    vocabulary: TttVocabulary

    def inputs(self) -> dict[str, torch.Tensor]:
        """What the `generate` of a diffusing system takes."""
        ids = pad_sequence([torch.tensor(text) for text in self.texts], batch_first=True)
        lengths = torch.tensor([len(text) for text in self.texts])
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
        return {"reply_text_ids": ids, "reply_text_mask": mask}

    def logits_processor(self, prompts: torch.Tensor) -> LogitsProcessor:
        """What the `generate` of an autoregressive system takes, for these prompts as it gets them."""
        markers = TttConfig(**self.vocabulary.config_kwargs()).markers()
        exact = ExactTextLogitsProcessor(markers, self.vocabulary.eos_token_id, prompts, self.texts)
        return _ExactTextAroundSpans(exact)


class _ExactTextAroundSpans(LogitsProcessor):
    """Leaves the ids of an open span to the model."""

    def __init__(self, exact: ExactTextLogitsProcessor):
        self.exact = exact

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        processed = self.exact(input_ids, scores)
        markers, replies = self.exact.markers, input_ids[:, self.exact.prompt_length :].tolist()
        for row, reply in enumerate(replies):
            opened, closed = (
                sum(token_id in ids for token_id in reply) for ids in (markers.begin_token_ids, markers.end_token_ids)
            )
            if opened > closed:
                processed[row] = scores[row]
                processed[row, : markers.audio_token_start_id] = -torch.inf
        return processed
