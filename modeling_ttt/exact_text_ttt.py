"""
Decode a reply whose text is given: the model writes it token for token, and chooses where audio begins.

So each model keeps the layout of its training (a span after each word, or 26 codes after 13 tokens).

Depends on the markers. Independent of models, caches, denoising and of how text becomes token ids.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from .configuration_ttt import TttMarkers

READING_INPUTS = ("reply_text_ids", "reply_text_mask")  # inputs of `generate` that no forward pass takes


class ExactTextLogitsProcessor(LogitsProcessor):
    """
    Allows only ids that lead to the given texts, each followed by its audio.

    | after | allowed |
    |---|---|
    | a token of the text, more text follows | the next token, or the begin of a span |
    | the end of a span, more text follows | the next token |
    | the last token of the text | the begin of the last span |
    | the end of the last span | the end of the reply |

    The state is read from the token ids of each call, so that a batch, a stream and decoding without a cache agree.

    Args:
        markers ([`TttMarkers`]): The markers of the vocabulary.
        eos_token_id (`int`): The end of a reply.
        prompts (`torch.LongTensor` of shape `(batch, prompt)`): The prompts, padded as `generate` gets them.
        texts (sequence of `list[int]`): The token ids that each prompt's reply must have as its text.

    Raises:
        ValueError: There are not as many texts as prompts, a text is empty or holds ids that are no text, or two equal
            prompts ask for different texts.
    """

    def __init__(self, markers: TttMarkers, eos_token_id: int, prompts: torch.Tensor, texts: Sequence[list[int]]):
        if len(prompts) != len(texts):
            raise ValueError(f"{len(prompts)} prompts have {len(texts)} texts to be read aloud: give one for each.")
        self.markers, self.eos_token_id = markers, eos_token_id
        self.prompt_length = prompts.shape[1]
        self.texts: dict[tuple[int, ...], list[int]] = {}
        for prompt, text in zip(prompts.tolist(), texts, strict=True):
            if not text:
                raise ValueError("A text to be read aloud is empty: give some words.")
            for token_id in text:
                if not self._is_text(token_id):
                    raise ValueError(f"Token id {token_id} is not text: a text to be read aloud has no markers.")
            if self.texts.setdefault(tuple(prompt), text) != text:
                raise ValueError("Two equal prompts are to be read aloud as different texts.")

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.Tensor:
        """
        Mask the scores of the next token ids.

        Args:
            input_ids (`torch.LongTensor` of shape `(batch, length)`): Prompts and replies so far.
            scores (`torch.FloatTensor` of shape `(batch, vocabulary)`): Scores of the next token ids.

        Returns:
            `torch.FloatTensor` of shape `(batch, vocabulary)`: -inf where an id is not allowed.
        """
        processed = torch.full_like(scores, -torch.inf)
        for index, ids in enumerate(input_ids.tolist()):
            text = self.texts[tuple(ids[: self.prompt_length])]
            allowed = self.allowed_ids(text, ids[self.prompt_length :])
            processed[index, allowed] = scores[index, allowed]
        return processed

    def allowed_ids(self, text: list[int], reply: list[int]) -> list[int]:
        """
        List the token ids that may follow.

        Args:
            text (`list[int]`): The whole text.
            reply (`list[int]`): The reply so far, all spans closed.

        Returns:
            `list[int]`: One or two ids.
        """
        written = sum(map(self._is_text, reply))
        if written < len(text):
            follows_text = bool(reply) and self._is_text(reply[-1])
            return [text[written]] + ([self.markers.begin_audio_token_id] if follows_text else [])
        has_last_span = self.markers.begin_last_audio_token_id in reply
        return [self.eos_token_id if has_last_span else self.markers.begin_last_audio_token_id]

    def _is_text(self, token_id: int) -> bool:
        is_marker = token_id in (*self.markers.begin_token_ids, self.eos_token_id)
        return 0 <= token_id < self.markers.audio_token_start_id and not is_marker
