"""
How probable a greedy transcript was to the model that wrote it.

Depends on the scores of `generate`. Independent of what is transcribed.
"""

import torch
from transformers import LogitsProcessor


class TextLogProbs(LogitsProcessor):
    """
    Notes the log-probability of the most probable token id of each text step, and changes nothing.

    A copy in another process, where a borrowed GPU is, notes them there: here the mean stays `None`.
    """

    def __init__(self) -> None:
        self._log_probs: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Take the scores of one sequence, of shape `(1, vocabulary)`; return them."""
        self._log_probs.append(float(scores.float().log_softmax(-1).max()))
        return scores

    @property
    def mean(self) -> float | None:
        """The mean over the text steps, in nats; `None` before the first."""
        return sum(self._log_probs) / len(self._log_probs) if self._log_probs else None
