"""
The vocabulary of a Text-to-Talk model: the markers between text and audio, and the audio alphabet.

Defines the strings of the markers and their order, reads their token ids from a tokenizer, and maps codes to token ids.

A token id is an audio position if and only if it is >= `audio_token_start_id`: the rule is written here once, as
`TttVocabulary.is_audio`. Independent of the layout (where markers go), waveforms and models.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerBase

# Text part: generated (or prompted) one after the other.
BEGIN_OF_AUDIO = "<|begin_of_audio|>"  # opens the user's speech and every span of a reply but the last
END_OF_AUDIO = "<|end_of_audio|>"  # closes the user's speech
BEGIN_OF_LAST_AUDIO = "<|begin_of_quad|>"  # opens the last span of a reply, which has any length
# Audio part: the audio alphabet, in the order of its token ids.
AUDIO_PLACEHOLDER = "<|audio|>"  # placeholder of audio in a rendered prompt; the first token id of the alphabet
AUDIO_CODE = "<|audio_{}|>"  # code 0, 1, ... of the codec
MASK = "<|mask_token|>"  # the absorbing state of the diffusion: an input, never an output
END_OF_SPAN = "<|end_of_audio_new|>"  # closes a span of a reply
END_OF_LAST_SPAN = "<|end_of_audio_span_last|>"  # closes the last span of a reply
# Chat framing.
BEGIN_OF_MESSAGE = "<|im_start|>"
END_OF_MESSAGE = "<|im_end|>"  # also the end of a reply
PADDING = "<|endoftext|>"  # added only to a tokenizer without a padding token

_TEXT_MARKERS = (BEGIN_OF_AUDIO, END_OF_AUDIO, BEGIN_OF_LAST_AUDIO)
_CODE_PATTERN = re.compile(r"<\|audio_(\d+)\|>")


@dataclass(frozen=True)
class TttVocabulary:
    """
    Token ids of all markers and of the audio alphabet in one tokenizer.

    Args:
        begin_audio_token_id (`int`): `<|begin_of_audio|>`.
        end_user_audio_token_id (`int`): `<|end_of_audio|>`, which closes the audio of a prompt.
        begin_last_audio_token_id (`int`): `<|begin_of_quad|>`.
        audio_token_start_id (`int`): `<|audio|>`, the first token id of the audio alphabet: every one from here on
            is an audio position.
        audio_code_offset (`int`): Id of code 0.
        codebook_size (`int`): Number of codes; they have the ids `audio_code_offset` to `audio_code_offset +
            codebook_size - 1`.
        mask_token_id (`int`): `<|mask_token|>`.
        end_audio_token_id (`int`): `<|end_of_audio_new|>`.
        end_last_audio_token_id (`int`): `<|end_of_audio_span_last|>`.
        begin_message_token_id (`int`): `<|im_start|>`.
        eos_token_id (`int`): `<|im_end|>`, the end of a reply.
        pad_token_id (`int`): Padding of a batch.
        vocab_size (`int`): One more than the highest token id: a model needs at least as many embedding rows.
    """

    begin_audio_token_id: int
    end_user_audio_token_id: int
    begin_last_audio_token_id: int
    audio_token_start_id: int
    audio_code_offset: int
    codebook_size: int
    mask_token_id: int
    end_audio_token_id: int
    end_last_audio_token_id: int
    begin_message_token_id: int
    eos_token_id: int
    pad_token_id: int
    vocab_size: int

    def __post_init__(self) -> None:
        start = self.audio_token_start_id
        for name in ("begin_audio", "end_user_audio", "begin_last_audio", "begin_message", "eos", "pad"):
            value = getattr(self, f"{name}_token_id")
            if not 0 <= value < start:
                raise ValueError(
                    f"`{name}_token_id` is {value}: a text-side id must lie below `audio_token_start_id` ({start})."
                )
        codes_end = self.audio_code_offset + self.codebook_size
        if self.codebook_size < 1 or self.audio_code_offset < start:
            raise ValueError(
                f"The {self.codebook_size} codes from id {self.audio_code_offset} on must be at least one and not lie "
                f"below `audio_token_start_id` ({start})."
            )
        for name in ("mask", "end_audio", "end_last_audio"):
            value = getattr(self, f"{name}_token_id")
            if value < start or self.audio_code_offset <= value < codes_end:
                raise ValueError(
                    f"`{name}_token_id` is {value}: it must not lie below `audio_token_start_id` ({start}) nor be a "
                    f"code ({self.audio_code_offset} to {codes_end - 1})."
                )

    @classmethod
    def from_tokenizer(cls, tokenizer: PreTrainedTokenizerBase) -> "TttVocabulary":
        """
        Read the ids from a tokenizer that has the markers: one made by `add_ttt_tokens`, or a released checkpoint's.

        Args:
            tokenizer (`PreTrainedTokenizerBase`): The tokenizer.

        Returns:
            `TttVocabulary`: The ids.

        Raises:
            ValueError: If a marker is missing, or the codes are not numbered without a gap.
        """
        vocab = tokenizer.get_vocab()
        wanted = (
            *_TEXT_MARKERS,
            AUDIO_PLACEHOLDER,
            MASK,
            END_OF_SPAN,
            END_OF_LAST_SPAN,
            BEGIN_OF_MESSAGE,
            END_OF_MESSAGE,
        )
        missing = [token for token in (*wanted, AUDIO_CODE.format(0)) if token not in vocab]
        if missing:
            raise ValueError(
                f"The tokenizer has no {', '.join(missing)}: load the tokenizer of a Text-to-Talk checkpoint, or add "
                "the markers and the audio alphabet with `add_ttt_tokens(tokenizer, codebook_size)`."
            )
        code_ids = {int(match[1]): vocab[token] for token in vocab if (match := _CODE_PATTERN.fullmatch(token))}
        offset = code_ids[0]
        for code in range(len(code_ids)):
            if code_ids.get(code) != offset + code:
                raise ValueError(
                    f"The ids of {AUDIO_CODE.format(0)} to {AUDIO_CODE.format(len(code_ids) - 1)} must follow one "
                    f"another without a gap, but {AUDIO_CODE.format(code)} has {code_ids.get(code)} instead of "
                    f"{offset + code}."
                )
        eos_token_id = vocab[END_OF_MESSAGE]
        pad_token_id = tokenizer.pad_token_id
        return cls(
            begin_audio_token_id=vocab[BEGIN_OF_AUDIO],
            end_user_audio_token_id=vocab[END_OF_AUDIO],
            begin_last_audio_token_id=vocab[BEGIN_OF_LAST_AUDIO],
            audio_token_start_id=vocab[AUDIO_PLACEHOLDER],
            audio_code_offset=offset,
            codebook_size=len(code_ids),
            mask_token_id=vocab[MASK],
            end_audio_token_id=vocab[END_OF_SPAN],
            end_last_audio_token_id=vocab[END_OF_LAST_SPAN],
            begin_message_token_id=vocab[BEGIN_OF_MESSAGE],
            eos_token_id=eos_token_id,
            pad_token_id=eos_token_id if pad_token_id is None else pad_token_id,
            vocab_size=max(vocab.values()) + 1,
        )

    def config_kwargs(self) -> dict[str, int]:
        """
        The fields that a model's configuration must share with the tokenizer.

        Returns:
            `dict[str, int]`: Keyword arguments of `TttConfig`.
        """
        return {
            "audio_token_start_id": self.audio_token_start_id,
            "audio_codebook_size": self.codebook_size,
            "audio_code_offset": self.audio_code_offset,
            "mask_token_id": self.mask_token_id,
            "begin_audio_token_id": self.begin_audio_token_id,
            "begin_last_audio_token_id": self.begin_last_audio_token_id,
            "end_audio_token_id": self.end_audio_token_id,
            "end_last_audio_token_id": self.end_last_audio_token_id,
            "pad_token_id": self.pad_token_id,
            "eos_token_id": self.eos_token_id,
        }

    def is_audio(self, ids: Any) -> Any:
        """
        Find the audio positions.

        Args:
            ids (`int`, `torch.Tensor` or `np.ndarray`): Token ids of any shape.

        Returns:
            `bool`, or a boolean tensor or array of the same shape.
        """
        return ids >= self.audio_token_start_id

    def is_code(self, token_id: int) -> bool:
        """Whether one token id is a code of the codec."""
        return 0 <= token_id - self.audio_code_offset < self.codebook_size

    def codes_to_ids(self, codes: Iterable[int]) -> list[int]:
        """
        Map codes to token ids.

        Args:
            codes (iterable of `int`, 1-D tensor or array): Codes, each from 0 to `codebook_size - 1`.

        Returns:
            `list[int]`: Token ids.

        Raises:
            ValueError: If a code is not in the codebook.
        """
        codes = [int(code) for code in codes]
        if codes and not 0 <= min(codes) <= max(codes) < self.codebook_size:
            raise ValueError(
                f"Codes must lie between 0 and {self.codebook_size - 1}, but are {min(codes)} to {max(codes)}."
            )
        return [self.audio_code_offset + code for code in codes]


def add_ttt_tokens(tokenizer: PreTrainedTokenizerBase, codebook_size: int) -> TttVocabulary:
    """
    Add the markers and the audio alphabet to a tokenizer, in place. The ids of its text do not change.

    The new tokens are special: they are never split, and decoding can skip them. `<|im_start|>` and `<|im_end|>` are
    added where they are missing, and `<|im_end|>` becomes the end-of-sequence token; padding is what it was, else the
    former end-of-sequence token, else `<|endoftext|>`. Calling it again changes nothing.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): The tokenizer of a text model.
        codebook_size (`int`): Number of codes of the codec.

    Returns:
        `TttVocabulary`: The ids.

    Raises:
        ValueError: If the tokenizer has some of the markers but not all, or an audio alphabet of another size.
    """
    vocab = tokenizer.get_vocab()
    present = [token for token in (AUDIO_PLACEHOLDER, AUDIO_CODE.format(0), MASK, END_OF_SPAN) if token in vocab]
    if present:
        vocabulary = TttVocabulary.from_tokenizer(tokenizer)
        if vocabulary.codebook_size != codebook_size:
            raise ValueError(
                f"The tokenizer has an audio alphabet of {vocabulary.codebook_size} codes already, but the codec has "
                f"{codebook_size}: start from a tokenizer without audio tokens."
            )
        return vocabulary
    if codebook_size < 1:
        raise ValueError(f"`codebook_size` must be at least 1, but is {codebook_size}.")

    named: dict[str, Any] = {"eos_token": END_OF_MESSAGE}
    if tokenizer.pad_token is None:
        former_eos = tokenizer.eos_token
        named["pad_token"] = former_eos if former_eos not in (None, END_OF_MESSAGE) else PADDING
    text_side = [BEGIN_OF_MESSAGE, END_OF_MESSAGE, *named.values(), *_TEXT_MARKERS]
    audio_side = [AUDIO_PLACEHOLDER, *map(AUDIO_CODE.format, range(codebook_size)), MASK, END_OF_SPAN, END_OF_LAST_SPAN]
    tokens = dict.fromkeys([*text_side, *audio_side])  # without repetitions, in order
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in tokens], special_tokens=True)
    tokenizer.add_special_tokens(named)
    return TttVocabulary.from_tokenizer(tokenizer)
