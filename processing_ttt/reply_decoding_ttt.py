"""
Decode replies: token ids after a prompt to text and audio, as replies and as transformers' pipelines ask for them.

Depends on the tokenizer, the layout and the codec. Independent of prompts, streams and models.
"""

import os
from typing import Any, TypeAlias

import numpy as np
import torch

from .audio_output_ttt import write_audio
from .layout_ttt import TttLayout
from .pretrained_processor_ttt import TttPreTrainedProcessor
from .reply_ttt import TttReply
from .timings_ttt import WordClock

TokenIds: TypeAlias = torch.Tensor | np.ndarray | list[int]


class ReplyDecodingProcessor(TttPreTrainedProcessor):
    """Decoding of replies for [`TttProcessor`], which sets the attributes below."""

    tokenizer: Any
    layout: TttLayout

    def decode_reply(self, ids: TokenIds) -> TttReply:
        """
        Decode a reply to text and audio.

        Args:
            ids (`torch.LongTensor` of shape `(length,)`, array or `list[int]`): Token ids after the prompt, finished
                or not.

        Returns:
            [`TttReply`]: A reply of text only has `audio` of shape `(0,)`, and does not load the codec.
        """
        parsed = self.layout.parse_reply(_as_ids(ids))
        return TttReply(
            text=self.decode_text(parsed.text_ids),
            audio=self.decode_codes(parsed.codes),
            sampling_rate=self.codec_config.output_sampling_rate,
            finished=parsed.finished,
            timings=tuple(WordClock(self.layout, self.decode_text, self.codec_config.frame_rate).push(parsed)),
        )

    def batch_decode_reply(self, ids: torch.Tensor | np.ndarray | list[list[int]]) -> list[TttReply]:
        """
        Decode a batch of replies to text and audio.

        Args:
            ids (`torch.LongTensor` of shape `(batch, length)`, array or list of `list[int]`): Token ids after the
                prompts.

        Returns:
            `list[TttReply]`: One for each sequence.
        """
        return [self.decode_reply(row) for row in ids]

    def post_process_multimodal_output(
        self,
        generated_outputs: torch.Tensor | np.ndarray,
        skip_special_tokens: bool = True,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> list[str] | list[np.ndarray]:
        """
        Decode the output of `generate` to texts or audio, for `pipeline("any-to-any")`.

        Args:
            generated_outputs (`torch.LongTensor` of shape `(batch, length)`): Prompts with their replies.
            skip_special_tokens (`bool`, defaults to `True`): Leave markers and codes out of the text.
            generation_mode (`str`, *optional*): `"text"` (the default) or `"audio"`.
            kwargs: Further arguments of the tokenizer's `batch_decode`.

        Returns:
            `list[str]`: The whole text of each sequence, prompt included; or
            `list[np.ndarray]`: The audio of each sequence's last message, float32 of shape `(samples,)`.
        """
        if generation_mode in (None, "text"):
            kwargs.setdefault("clean_up_tokenization_spaces", False)
            return self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        if generation_mode == "audio":
            return [self.decode_codes(self._last_message_codes(_as_ids(row))) for row in generated_outputs]
        raise ValueError(f"`generation_mode` must be 'text' or 'audio', but is {generation_mode!r}.")

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """
        Decode token ids to text as the tokenizer does, or, for `pipeline("text-to-audio")`, a batch to audio.

        Args:
            token_ids (`list[int]` or `torch.LongTensor` of shape `(length,)` or `(batch, length)`): Token ids.
            kwargs: Further arguments of the tokenizer's `decode`.

        Returns:
            `str`, or for a tensor of shape `(batch, length)` a list of `torch.FloatTensor` of shape `(samples,)`: the
            audio of each sequence's last message. For texts of a batch, use `batch_decode`.
        """
        if isinstance(token_ids, torch.Tensor) and token_ids.ndim == 2:
            audio = self.post_process_multimodal_output(token_ids, generation_mode="audio")
            return [torch.from_numpy(samples) for samples in audio]
        return super().decode(token_ids, **kwargs)

    def save_audio(
        self, audio: TttReply | np.ndarray | torch.Tensor, path: str | os.PathLike, sampling_rate: int | None = None
    ) -> None:
        """
        Write audio to a file, in the format of its extension (wav, flac, ogg, mp3).

        Args:
            audio (`TttReply`, `np.ndarray` or `torch.Tensor` of shape `(samples,)`): The audio.
            path (`str` or `os.PathLike`): The file.
            sampling_rate (`int`, *optional*): Rate of the audio in Hz; by default the codec's output rate.

        Raises:
            ValueError: If there is no audio, or the extension is unknown.
        """
        if isinstance(audio, TttReply):
            sampling_rate = sampling_rate or audio.sampling_rate
            audio = audio.audio
        write_audio(audio, path, sampling_rate or self.codec_config.output_sampling_rate)

    def decode_text(self, text_ids: list[int]) -> str:
        """
        Decode a reply's text token ids, without clean-up of spaces.

        Args:
            text_ids (`list[int]`): Text token ids of all segments, joined.

        Returns:
            `str`: The text.
        """
        return self.tokenizer.decode(text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _last_message_codes(self, ids: list[int]) -> list[int]:
        """The codes after the last begin of a message or end of a user's audio."""
        borders = (self.vocabulary.begin_message_token_id, self.vocabulary.end_user_audio_token_id)
        start = max((index + 1 for index, token_id in enumerate(ids) if token_id in borders), default=0)
        return self.layout.parse_reply(ids[start:]).codes


def _as_ids(ids: TokenIds) -> list[int]:
    if not isinstance(ids, (torch.Tensor, np.ndarray)):
        return list(ids)
    if ids.ndim != 1:
        raise ValueError(
            f"One reply has token ids of shape (length,), not {tuple(ids.shape)}: use `batch_decode_reply`, or pass "
            "one sequence."
        )
    return ids.tolist()
