"""
The processor: conversations with text and sound to token ids, and a reply's token ids to text and sound.

Knows the tokenizer, the layout and the codec, and joins them. Knows no Transformer: between `apply_chat_template` and
`decode_reply` stands the model's `generate`.
"""

import os
import threading
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase

from .audio_input_ttt import as_audio_list, load_audio, resolve_audio_parts
from .audio_output_ttt import write_audio
from .codec_adapter_ttt import adapted_config
from .codec_interface_ttt import CodecStream
from .codec_loading_ttt import OWN_CODEC, CodecHandle
from .layout_ttt import TASKS, TttLayout, chat_template, task_messages
from .pretrained_processor_ttt import TttPreTrainedProcessor
from .reply_ttt import TttReply
from .streaming_ttt import ReplyStreamingMixin
from .tasks_ttt import system_prompt as task_system_prompt
from .vocabulary_ttt import (
    AUDIO_CODE,
    AUDIO_PLACEHOLDER,
    BEGIN_OF_AUDIO,
    BEGIN_OF_MESSAGE,
    END_OF_AUDIO,
    TttVocabulary,
)

# A fast tokenizer keeps how it pads and whether it sees markers as settings of its own, which a call changes: one
# thread at a time.
_TOKENIZING = threading.Lock()


class TttProcessor(ReplyStreamingMixin, TttPreTrainedProcessor):
    r"""
    Turns conversations into a model's inputs and a model's replies into text and sound.

    There is no feature extractor: a codec owns its features. The codec is not part of the processor's configuration;
    it is known by name and loaded when a sound is first encoded or decoded.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): A tokenizer with the markers and the audio alphabet (`add_ttt_tokens`).
            Its padding side becomes left.
        codec_name_or_path (`str`, defaults to `"./codec"`): `./folder` inside the checkpoint, or a folder or Hub id
            of its own.
        text_tokens (`int`, defaults to 13): Text tokens before each span of a reply.
        audio_tokens (`int`, defaults to 26): Codes in each span of a reply but the last.
        max_audio_seconds (`float`, *optional*, defaults to 600): Longest sound taken, in seconds; `None` for no limit.
        system_prompts (`dict[str, str]`, *optional*): System prompts by task, where they differ from `TASKS`.
        chat_template (`str`, *optional*): Jinja template; by default the one of `tasks_ttt`, with the system prompt
            of chat.

    Example:
        ```python
        processor = AutoProcessor.from_pretrained("checkpoints/ttt-nano")
        inputs = processor.prepare(processor.messages("chat", audio="question.wav"))
        ids = model.generate(**inputs)
        reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])
        reply.save("reply.wav")
        ```
    """

    # Defaults of `__call__`; whoever passes another value gets it.
    text_kwargs = {"padding": True, "padding_side": "left", "add_special_tokens": False}  # noqa: RUF012 - as in transformers

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        codec_name_or_path: str = OWN_CODEC,
        text_tokens: int = 13,
        audio_tokens: int = 26,
        max_audio_seconds: float | None = 600.0,
        system_prompts: dict[str, str] | None = None,
        chat_template: str | None = None,
    ):
        unknown = set(system_prompts or {}) - set(TASKS)
        if unknown:
            raise ValueError(
                f"`system_prompts` names unknown tasks {sorted(unknown)}: the tasks are {', '.join(TASKS)}."
            )
        self.vocabulary = TttVocabulary.from_tokenizer(tokenizer)
        self.layout = TttLayout(self.vocabulary, text_tokens, audio_tokens)
        self.codec_name_or_path = codec_name_or_path
        self.text_tokens = text_tokens
        self.audio_tokens = audio_tokens
        self.max_audio_seconds = max_audio_seconds
        self.system_prompts = system_prompts
        self.audio_token = AUDIO_PLACEHOLDER
        self.audio_token_id = self.vocabulary.audio_token_start_id
        self._codec_handle = CodecHandle(codec_name_or_path)
        tokenizer.padding_side = "left"  # a prompt ends where its reply begins
        super().__init__(tokenizer, chat_template=chat_template or default_chat_template(system_prompts))

    # ------------------------------------------------------------------------------------------------------------ codec

    @property
    def codec(self) -> Any:
        """The codec, loaded on first use. Set it to use one of your own; move it with `processor.codec.to("cuda")`."""
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.model

    @codec.setter
    def codec(self, codec: Any) -> None:
        self._check_codec(adapted_config(codec.config))
        self._codec_handle.model = codec

    @property
    def codec_config(self) -> Any:
        """The codec's configuration (rates, frame rate, size of the codebook); reading it does not load the codec."""
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.config

    def encode_audio(self, audio: Any, sampling_rate: int | None = None) -> list[int]:
        """
        Turn one sound into codes.

        Args:
            audio: A sound in any form that `load_audio` takes: path, bytes, open file, array with rate,
            `datasets.Audio` value.
            sampling_rate (`int`, *optional*): Rate of a bare array, in Hz.

        Returns:
            `list[int]`: Codes, `codec_config.frame_rate` of them per second.
        """
        return self._codec_handle.encode(self._waveform(audio, sampling_rate))

    def decode_codes(self, codes: list[int]) -> np.ndarray:
        """
        Turn codes into sound.

        Args:
            codes (`list[int]`): Codec codes; none at all is silence of no length, and does not load the codec.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32, at `codec_config.output_sampling_rate`.
        """
        if len(codes) == 0:
            return np.zeros(0, dtype=np.float32)
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.decode(codes)

    def codec_stream(self) -> CodecStream:
        """
        Begin a sound whose codes are still coming: `decode_codes`, piece by piece.

        Returns:
            [`CodecStream`]: Takes codes with `push(codes)`, ends with `finish()`; both give samples as `decode_codes`
            does.
        """
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.stream()

    def _check_codec(self, config: Any) -> None:
        if config.codebook_size != self.vocabulary.codebook_size:
            raise ValueError(
                f"The codec {self.codec_name_or_path!r} has {config.codebook_size} codes, but the tokenizer's audio "
                f"alphabet has {self.vocabulary.codebook_size}: they must be the same codec's."
            )

    # ----------------------------------------------------------------------------------------------------------- inputs

    def messages(
        self,
        task: str = "chat",
        text: str | None = None,
        audio: Any = None,
        language: str | None = None,
        system_prompt: str | None = None,
    ) -> list[dict[str, Any]]:
        """
        Write the messages of one user turn that asks for a task.

        Args:
            task (`str`, defaults to `"chat"`): `chat`, `asr`, `tts`, `text` or `caption`.
            text (`str`, *optional*): The user's text.
            audio (*optional*): The user's audio, in any form that `load_audio` takes.
            language (`str`, *optional*): Language tag that the system prompt ends with (`it`); English needs none.
            system_prompt (`str`, *optional*): Replaces the system prompt of the task; `language` then changes nothing.

        Returns:
            `list[dict]`: A system and a user message, for `prepare` or `apply_chat_template`.

        Raises:
            ValueError: If the task is unknown, or lacks what it needs, or gets what it cannot take.
        """
        if system_prompt is None:
            system_prompt = task_system_prompt(task, language, self.system_prompts)
        return task_messages(task, text, audio, system_prompt)

    conversation = messages  # its first name

    def prepare(self, messages: Any, **kwargs: Any) -> BatchFeature:
        """
        Turn messages into the inputs of `generate`: `apply_chat_template` up to where the reply begins.

        Control tokens that a user wrote are encoded as plain text: they end no turn and hold no audio.

        Args:
            messages (`list[dict]` or `list[list[dict]]`): Messages of one prompt, or a list of such lists.
            kwargs: Further arguments of `apply_chat_template`, which also replace those set here
                (`add_generation_prompt=True`, `sanitize_control_tokens=True`, `return_tensors="pt"`).

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` of shape `(batch, length)`, padded on the left.

        Example:
            ```python
            inputs = processor.prepare(processor.messages("tts", text="Hello.")).to(model.device)
            ids = model.generate(**inputs)
            reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])
            ```
        """
        for name, value in {
            "add_generation_prompt": True,
            "sanitize_control_tokens": True,
            "return_tensors": "pt",
        }.items():
            kwargs.setdefault(name, value)
        return self.apply_chat_template(messages, tokenize=True, return_dict=True, **kwargs)

    def apply_chat_template(  # type: ignore[override]  # the base class names its options, here they are kwargs
        self, conversation: Any, chat_template: str | None = None, **kwargs: Any
    ) -> Any:
        """
        Render conversations and, with `tokenize=True`, turn them into a model's inputs. See
        `ProcessorMixin.apply_chat_template`.

        A part `{"type": "audio", "audio": ...}` of a user message takes a sound in any form that `load_audio` does; a
        bare array needs `processor_kwargs={"sampling_rate": ...}`. A batch is padded on the left.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): Messages, or a batch of conversations.
            chat_template (`str`, *optional*): Instead of the processor's own.
            kwargs: `add_generation_prompt`, `tokenize`, `return_dict`, `return_tensors` (torch tensors by default in
            a dictionary),
                `processor_kwargs`, ... of the base class.

        Returns:
            `str` or `list[str]`, or with `tokenize=True` ids, or with `return_dict=True` a `BatchFeature` of
            `input_ids` and `attention_mask`.
        """
        if kwargs.get("tokenize"):
            processor_kwargs = dict(kwargs.get("processor_kwargs") or {})
            given_rate = processor_kwargs.get("sampling_rate", kwargs.pop("sampling_rate", None))
            conversation, has_audio = resolve_audio_parts(
                conversation, lambda sound, rate: self._waveform(sound, rate or given_rate)
            )
            if has_audio:
                processor_kwargs["sampling_rate"] = self.codec_config.sampling_rate
            if kwargs.get("return_dict") and "return_tensors" not in processor_kwargs:
                kwargs.setdefault("return_tensors", "pt")  # a dictionary is what `generate` takes
            kwargs["processor_kwargs"] = processor_kwargs
        return super().apply_chat_template(conversation, chat_template, **kwargs)

    def _waveform(self, sound: Any, sampling_rate: int | None) -> np.ndarray:
        return load_audio(sound, self.codec_config.sampling_rate, sampling_rate, self.max_audio_seconds)

    def __call__(
        self,
        text: str | list[str] | None = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Tokenize rendered prompts, each `<|audio|>` in them replaced by the codes of a sound.

        Args:
            text (`str` or `list[str]`): Rendered prompts (most callers want `apply_chat_template`).
            audio (*optional*): A sound, or a list with one for each `<|audio|>`, in order; each in any form that
            `load_audio` takes. kwargs: `sampling_rate` of bare arrays, and what the tokenizer takes:
            `return_tensors`, `padding`, ...

        A text without a message in it is tokenized as it is, unless `bare_text_task` names the task that it asks for:
        `"tts"` in a processor that `pipeline("text-to-speech")` loaded, `None` otherwise.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask`, padded on the left.

        Raises:
            ValueError: If there is no text, or there are not as many placeholders as sounds, or images or videos came.
        """
        # transformers passes them as None. They are not in the signature, from which it reads what a processor can
        # take.
        if kwargs.pop("images", None) is not None or kwargs.pop("videos", None) is not None:
            raise ValueError("A Text-to-Talk model takes text and audio only.")
        if text is None:
            raise ValueError(
                f"Give `text` with one {AUDIO_PLACEHOLDER} for each sound, or a conversation to `apply_chat_template` "
                '(`processor.messages("asr", audio=...)` writes one).'
            )
        prompts = [text] if isinstance(text, str) else list(text)
        if self.bare_text_task is not None and not any(BEGIN_OF_MESSAGE in prompt for prompt in prompts):
            return self.prepare([self.messages(self.bare_text_task, prompt, audio) for prompt in prompts], **kwargs)
        options = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        sounds = as_audio_list(audio)
        count = sum(prompt.count(AUDIO_PLACEHOLDER) for prompt in prompts)
        # A sanitized prompt spells the user's own placeholders out: they are not counted here and not replaced below.
        if count != len(sounds) and not kwargs.get("sanitize_control_tokens"):
            raise ValueError(
                f"The text has {count} {AUDIO_PLACEHOLDER} placeholders, but {len(sounds)} sounds came: give one for "
                "each."
            )
        sampling_rate = options["audio_kwargs"].get("sampling_rate")
        replacements = [self._audio_text(self.encode_audio(sound, sampling_rate)) for sound in sounds]
        prompts, offsets = self.get_text_with_replacements(prompts, audio_replacements=replacements)
        with _TOKENIZING:
            encoded = self.tokenizer(prompts, **options["text_kwargs"])
        data = {name: value for name, value in encoded.items() if name not in self.unused_input_names}
        if options.get("return_text_replacement_offsets"):
            data["text_replacement_offsets"] = offsets
        return BatchFeature(
            data,
            tensor_type=options["text_kwargs"].get("return_tensors"),
            skip_tensor_conversion=self.skip_tensor_conversion,
        )

    @staticmethod
    def _audio_text(codes: list[int]) -> str:
        return BEGIN_OF_AUDIO + "".join(map(AUDIO_CODE.format, codes)) + END_OF_AUDIO

    @property
    def unused_input_names(self) -> list[str]:
        """What the tokenizer may return and no decoder takes."""
        return ["token_type_ids"]

    # ---------------------------------------------------------------------------------------------------------- replies

    def decode_reply(self, ids: Any) -> TttReply:
        """
        Turn a reply into text and sound.

        Args:
            ids (`torch.LongTensor` of shape `(length,)`, array or `list[int]`): Ids after the prompt, finished or not.

        Returns:
            [`TttReply`]: A reply of text only has `audio` of shape `(0,)`, and does not load the codec.
        """
        parsed = self.layout.parse_reply(_as_ids(ids))
        return TttReply(
            text=self.decode_text(parsed.text_ids),
            audio=self.decode_codes(parsed.codes),
            sampling_rate=self.codec_config.output_sampling_rate,
            finished=parsed.finished,
        )

    def batch_decode_reply(self, ids: Any) -> list[TttReply]:
        """
        Turn a batch of replies into text and sound.

        Args:
            ids (`torch.LongTensor` of shape `(batch, length)`, array or list of `list[int]`): Ids after the prompts.

        Returns:
            `list[TttReply]`: One for each row.
        """
        return [self.decode_reply(row) for row in ids]

    def post_process_multimodal_output(
        self,
        generated_outputs: Any,
        skip_special_tokens: bool = True,
        generation_mode: str | None = None,
        **kwargs: Any,
    ) -> list[str] | list[np.ndarray]:
        """
        Turn what `generate` returned into texts or sounds, for `pipeline("any-to-any")`.

        Args:
            generated_outputs (`torch.LongTensor` of shape `(batch, length)`): Prompts with their replies.
            skip_special_tokens (`bool`, defaults to `True`): Leave markers and codes out of the text.
            generation_mode (`str`, *optional*): `"text"` (the default) or `"audio"`.
            kwargs: Further arguments of the tokenizer's `batch_decode`.

        Returns:
            `list[str]`: The whole text of each row, prompt included; or
            `list[np.ndarray]`: the sound of each row's last message, float32 of shape `(samples,)`.
        """
        if generation_mode in (None, "text"):
            kwargs.setdefault("clean_up_tokenization_spaces", False)
            return self.tokenizer.batch_decode(generated_outputs, skip_special_tokens=skip_special_tokens, **kwargs)
        if generation_mode == "audio":
            return [self.decode_codes(self._last_message_codes(_as_ids(row))) for row in generated_outputs]
        raise ValueError(f"`generation_mode` must be 'text' or 'audio', but is {generation_mode!r}.")

    def decode(self, token_ids: Any, **kwargs: Any) -> Any:
        """
        Turn ids into text as the tokenizer does, or, for `pipeline("text-to-audio")`, a batch of sequences into sounds.

        Args:
            token_ids (`list[int]` or `torch.LongTensor` of shape `(length,)` or `(batch, length)`): Ids.
            kwargs: Further arguments of the tokenizer's `decode`.

        Returns:
            `str`, or for a tensor of shape `(batch, length)` a list of `torch.FloatTensor` of shape `(samples,)`: the
            sound of each row's last message. For texts of a batch, use `batch_decode`.
        """
        if isinstance(token_ids, torch.Tensor) and token_ids.ndim == 2:
            sounds = self.post_process_multimodal_output(token_ids, generation_mode="audio")
            return [torch.from_numpy(sound) for sound in sounds]
        return super().decode(token_ids, **kwargs)

    def save_audio(self, audio: Any, path: str | os.PathLike, sampling_rate: int | None = None) -> None:
        """
        Write a sound to a file; the name's ending says the format (wav, flac, ogg, mp3).

        Args:
            audio (`TttReply`, `np.ndarray` or `torch.Tensor` of shape `(samples,)`): The sound.
            path (`str` or `os.PathLike`): The file.
            sampling_rate (`int`, *optional*): Rate of the sound in Hz; by default the rate at which the codec speaks.

        Raises:
            ValueError: If there is no sound, or no format goes by the file's ending.
        """
        if isinstance(audio, TttReply):
            audio, sampling_rate = audio.audio, sampling_rate or audio.sampling_rate
        write_audio(audio, path, sampling_rate or self.codec_config.output_sampling_rate)

    def decode_text(self, text_ids: list[int]) -> str:
        """
        Turn a reply's text ids into text, as they are: no clean-up of spaces.

        Args:
            text_ids (`list[int]`): Ids of text, those of all stretches joined.

        Returns:
            `str`: The text.
        """
        return self.tokenizer.decode(text_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _last_message_codes(self, ids: list[int]) -> list[int]:
        """The codes after the last begin of a message or end of a user's sound."""
        borders = (self.vocabulary.begin_message_token_id, self.vocabulary.end_user_audio_token_id)
        start = max((index + 1 for index, token_id in enumerate(ids) if token_id in borders), default=0)
        return self.layout.parse_reply(ids[start:]).codes


def default_chat_template(system_prompts: dict[str, str] | None) -> str:
    """The chat template with the system prompt of chat, own or changed."""
    return chat_template((system_prompts or {}).get("chat", TASKS["chat"].system_prompt))


def _as_ids(ids: Any) -> list[int]:
    if getattr(ids, "ndim", 1) != 1:
        raise ValueError(
            f"One reply has ids of shape (length,), but {tuple(ids.shape)} came: use `batch_decode_reply`, or pass one "
            "row."
        )
    return ids.tolist() if isinstance(ids, (torch.Tensor, np.ndarray)) else list(ids)


TttProcessor.register_for_auto_class()
