"""
Decode a reply whose text is given: the model writes it token for token, and chooses where audio begins.

So each model keeps the layout of its training (a span after each word, or 26 codes after 13 tokens). Since the text is
known, the token ids up to the next span can be proposed, and verified by the forward pass that begins to denoise it.

Depends on the markers. Independent of models, caches, denoising and of how text becomes token ids.
"""

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor

from .configuration_ttt import TttMarkers

# Inputs of `generate` that no forward pass takes.
READING_INPUTS = ("reply_text_ids", "reply_text_mask", "reply_word_ends")


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
        word_ends (sequence of `list[bool]`, *optional*): Which of them are the last of a word: only for proposals.

    Raises:
        ValueError: There are not as many texts as prompts, a text is empty or holds ids that are no text, or two equal
            prompts ask for different texts.
    """

    def __init__(
        self,
        markers: TttMarkers,
        eos_token_id: int,
        prompts: torch.Tensor,
        texts: Sequence[list[int]],
        word_ends: Sequence[list[bool]] | None = None,
    ):
        if len(prompts) != len(texts):
            raise ValueError(f"{len(prompts)} prompts have {len(texts)} texts to be read aloud: give one for each.")
        self.markers, self.eos_token_id = markers, eos_token_id
        self.prompt_length = prompts.shape[1]
        self.texts: dict[tuple[int, ...], list[int]] = {}
        self.word_ends: dict[tuple[int, ...], list[bool]] = {}
        for prompt, text, ends in zip(prompts.tolist(), texts, word_ends or [[]] * len(texts), strict=True):
            self.word_ends[tuple(prompt)] = ends
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

    def proposed_ids(self, input_ids: torch.Tensor) -> list[int]:
        """
        Propose what follows in text, up to the begin marker of the next span.

        A span is expected after the next word, where all spans so far are behind single words; else after as many
        token ids as the one before.

        Args:
            input_ids (`torch.LongTensor` of shape `(length,)`): A prompt and its reply so far, all spans closed.

        Returns:
            `list[int]`: Token ids of text and a begin marker; empty where nothing suggests where the span begins.
        """
        prompt, reply = tuple(input_ids[: self.prompt_length].tolist()), input_ids[self.prompt_length :].tolist()
        text, ends = self.texts[prompt], self.word_ends[prompt]
        if self.markers.begin_last_audio_token_id in reply:
            return []
        written = sum(map(self._is_text, reply))
        group_end = self._next_group_end(text, ends, self._group_ends(reply))
        if group_end is None or group_end < written:
            return []
        is_last = group_end == len(text)
        begin = self.markers.begin_last_audio_token_id if is_last else self.markers.begin_audio_token_id
        return [*text[written:group_end], begin]

    def _group_ends(self, reply: list[int]) -> list[int]:
        """How many token ids of the text are before each span of a reply."""
        written, group_ends = 0, []
        for token_id in reply:
            written += self._is_text(token_id)
            if token_id in self.markers.begin_token_ids:
                group_ends.append(written)
        return group_ends

    @staticmethod
    def _next_group_end(text: list[int], ends: list[bool], group_ends: list[int]) -> int | None:
        """How many token ids of the text are expected before the next span."""
        start, *_ = group_ends[-1:] or [0]
        words = [number + 1 for number, is_end in enumerate(ends) if is_end]
        if words[: len(group_ends)] == group_ends and len(words) > len(group_ends):
            return words[len(group_ends)]
        if not group_ends:
            return None
        before, *_ = group_ends[-2:-1] or [0]
        return min(len(text), start + start - before)

    def _is_text(self, token_id: int) -> bool:
        is_marker = token_id in (*self.markers.begin_token_ids, self.eos_token_id)
        return 0 <= token_id < self.markers.audio_token_start_id and not is_marker
