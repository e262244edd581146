"""
The processor: messages with text and audio to token ids, and a reply's token ids to text and audio.

Depends on the tokenizer, the layout and the codec. Independent of the Transformer, whose `generate` runs between
`prepare` and `decode_reply`.
"""

import threading
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from transformers import BatchFeature, PreTrainedTokenizerBase

from .audio_input_ttt import as_audio_list, resolve_audio_parts
from .codec_loading_ttt import OWN_CODEC, CodecHandle
from .layout_ttt import TASKS, TttLayout, chat_template, task_messages
from .pretrained_processor_ttt import TRANSCRIPTION_SECONDS, check_settings
from .reply_decoding_ttt import ReplyDecodingProcessor
from .spoken_text_ttt import spoken_text, without_drawings
from .streaming_ttt import ReplyStreamingMixin
from .tasks_ttt import Messages, check_text
from .tasks_ttt import system_prompt as task_system_prompt
from .typed_question_ttt import typed_question
from .vocabulary_ttt import (
    AUDIO_CODE,
    AUDIO_PLACEHOLDER,
    BEGIN_OF_AUDIO,
    BEGIN_OF_MESSAGE,
    END_OF_AUDIO,
    TttVocabulary,
)

# A call changes the settings of a fast tokenizer (padding, recognition of markers): one thread at a time.
_TOKENIZING = threading.Lock()

# Options of the tokenizer that users of chat templates give by name.
TOKENIZER_OPTIONS = frozenset(("padding", "padding_side", "pad_to_multiple_of", "truncation", "max_length"))


class TttProcessor(ReplyStreamingMixin, ReplyDecodingProcessor):
    r"""
    Turns messages into a model's inputs and a model's replies into text and audio.

    There is no feature extractor: a codec computes its own features. The processor's configuration has the codec's
    name; the codec is loaded when audio is first encoded or decoded.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): A tokenizer with the markers and the audio alphabet (`add_ttt_tokens`).
            Its padding side becomes left.
        codec_name_or_path (`str`, defaults to `"./codec"`): `./folder` inside the checkpoint, or a folder or Hub id
            of its own.
        text_tokens (`int`, defaults to 13): Text tokens before each span of a reply.
        audio_tokens (`int`, defaults to 26): Codes in each span of a reply but the last.
        max_audio_seconds (`float`, *optional*, defaults to 600): Longest audio that is accepted, in seconds; `None`
            for no limit.
        system_prompts (`dict[str, str]`, *optional*): System prompts by task, where they differ from `TASKS`.
        chat_template (`str`, *optional*): Jinja template; by default that of `tasks_ttt`, with the system prompt of
            chat.
        transcription_seconds (`float`, defaults to 30): Longest audio that is transcribed in one piece, in seconds;
            longer recordings are cut at pauses.
        spoken_input (`bool`, defaults to `False`): Whether typed questions are written as their transcripts would be,
            see `typed_question`: for a model that learnt from transcripts, which have no digits.

    Example:
        ```python
        processor = AutoProcessor.from_pretrained("checkpoints/ttt-nano")
        inputs = processor.prepare(processor.messages("chat", audio="question.wav"))
        ids = model.generate(**inputs)
        reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])
        reply.save("reply.wav")
        ```
    """

    # Defaults of `__call__`; arguments override them.
    text_kwargs = {"padding": True, "padding_side": "left", "add_special_tokens": False}  # noqa: RUF012

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        codec_name_or_path: str = OWN_CODEC,
        text_tokens: int = 13,
        audio_tokens: int = 26,
        max_audio_seconds: float | None = 600.0,
        system_prompts: dict[str, str] | None = None,
        chat_template: str | None = None,
        transcription_seconds: float = TRANSCRIPTION_SECONDS,
        spoken_input: bool = False,
    ):
        check_settings(
            tokenizer, codec_name_or_path, max_audio_seconds, transcription_seconds, system_prompts, spoken_input
        )
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
        self.transcription_seconds = transcription_seconds
        self.system_prompts = system_prompts
        self.spoken_input = spoken_input
        self.audio_token = AUDIO_PLACEHOLDER
        self.audio_token_id = self.vocabulary.audio_token_start_id
        self._codec_handle = CodecHandle(codec_name_or_path)
        tokenizer.padding_side = "left"  # a prompt ends where its reply begins
        super().__init__(tokenizer, chat_template=chat_template or default_chat_template(system_prompts))

    # ----------------------------------------------------------------------------------------------------------- inputs

    def messages(
        self,
        task: str = "chat",
        text: str | None = None,
        audio: Any = None,
        language: str | None = None,
        system_prompt: str | None = None,
    ) -> Messages:
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
            ValueError: If the task is unknown, or its input is missing or of the wrong kind.
        """
        if isinstance(text, str):
            check_text(text)
        if system_prompt is None:
            system_prompt = task_system_prompt(task, language, self.system_prompts)
        return task_messages(task, self.as_input(text, system_prompt), audio, system_prompt)

    conversation = messages  # an alias

    def as_input(self, text: str | None, system_prompt: str | None = None) -> str | None:
        """A user's text as the model learnt it: with `spoken_input`, an English question as its transcript would be."""
        asking = (task_system_prompt(task, None, self.system_prompts) for task in ("chat", "text"))
        is_question = system_prompt is None or system_prompt in asking
        return typed_question(text) if self.spoken_input and isinstance(text, str) and is_question else text

    def prepare(
        self, messages: Messages | list[Messages], reply_texts: Sequence[str] | None = None, **kwargs: Any
    ) -> BatchFeature:
        """
        Turn messages into the inputs of `generate`: `apply_chat_template` up to where the reply begins.

        Control tokens in a user's text are encoded as plain text: they end no turn and contain no audio.

        Args:
            messages (`list[dict]` or `list[list[dict]]`): Messages of one prompt, or a list of such lists.
            reply_texts (`Sequence[str]`, *optional*): The texts that the replies must have, word for word, one for
                each prompt: reads them aloud.
            kwargs: Further arguments of `apply_chat_template`, which also override the defaults here
                (`add_generation_prompt=True`, `sanitize_control_tokens=True`, `return_tensors="pt"`).

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` of shape `(batch, length)`, padded on the left; with
            `reply_texts` also `reply_text_ids`, `reply_text_mask` and `reply_word_ends` of shape `(batch, text)`.

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
        inputs = self.apply_chat_template(messages, tokenize=True, return_dict=True, **kwargs)
        if reply_texts is not None:
            inputs.update(self._reading_inputs(list(reply_texts), kwargs["return_tensors"]))
        return inputs

    def _reading_inputs(self, texts: list[str], return_tensors: str) -> dict[str, Any]:
        """The inputs of `generate` that hold the texts of its replies."""
        with _TOKENIZING:
            encoded = self.tokenizer(
                texts,
                add_special_tokens=False,
                split_special_tokens=True,
                padding=True,
                return_offsets_mapping=self.tokenizer.is_fast,
            )
        inputs = {"reply_text_ids": encoded["input_ids"], "reply_text_mask": encoded["attention_mask"]}
        if self.tokenizer.is_fast:
            inputs["reply_word_ends"] = [
                [int(end > start and not text[end : end + 1].strip()) for start, end in offsets]
                for text, offsets in zip(texts, encoded["offset_mapping"], strict=True)
            ]
        return BatchFeature(inputs, tensor_type=return_tensors)

    def prompt_ids(
        self,
        messages: Messages,
        audio_codes: Sequence[Sequence[int]] = (),
        reply_ids: Sequence[Sequence[int]] = (),
    ) -> list[int]:
        """
        Tokenize messages whose audio is encoded already, and whose replies are the token ids that were generated:
        tokenizing the text of a reply again could give others.

        Args:
            messages (`list[dict]`): The messages of one prompt. Whatever an audio part contains is ignored, and a reply
                has the content `""`.
            audio_codes (`Sequence[Sequence[int]]`): The codes of each audio part, in order.
            reply_ids (`Sequence[Sequence[int]]`): The token ids of each reply, in order, without the end of message.

        Returns:
            `list[int]`: Token ids up to where the next reply begins: those of `prepare`, if no reply is among the
            messages.

        Raises:
            ValueError: If the numbers of audio parts or of replies differ, or the chat template does not begin a reply
                as it begins the next one.
        """
        options: dict[str, Any] = {"chat_template": self.chat_template, "sanitize_control_tokens": True}
        with _TOKENIZING:
            said, ids = (
                self.tokenizer.apply_chat_template(
                    messages, add_generation_prompt=begins_reply, return_dict=False, **options
                )
                for begins_reply in (False, True)
            )
        begin, ids = ids[len(said) :], self.layout.fill_audio(ids, audio_codes)
        empty = [*begin, self.vocabulary.eos_token_id]
        places = [i + len(begin) for i in range(len(ids)) if ids[i : i + len(empty)] == empty]
        if len(places) != len(reply_ids):
            raise ValueError(
                f"The messages have {len(reply_ids)} replies, but the chat template writes {len(places)} empty ones: "
                "a message of the assistant must begin with its generation prompt and end with <|im_end|>."
            )
        for place, reply in reversed(list(zip(places, reply_ids, strict=True))):
            ids[place:place] = reply
        return ids

    def apply_chat_template(  # type: ignore[override]  # the base class names its options, here they are kwargs
        self, conversation: Any, chat_template: str | None = None, **kwargs: Any
    ) -> Any:
        """
        Render messages and, with `tokenize=True`, turn them into a model's inputs. See
        `ProcessorMixin.apply_chat_template`.

        A part `{"type": "audio", "audio": ...}` of a user message takes audio in any form that `load_audio` does; a
        bare array needs `processor_kwargs={"sampling_rate": ...}`. A batch is padded on the left.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`): Messages of one prompt, or a list of such lists.
            chat_template (`str`, *optional*): Replaces the processor's own.
            kwargs: `add_generation_prompt`, `tokenize`, `return_dict`, `return_tensors` (torch tensors by default in
                a dictionary), `processor_kwargs`, ... of the base class.

        Returns:
            `str` or `list[str]`, or with `tokenize=True` token ids, or with `return_dict=True` a `BatchFeature` of
            `input_ids` and `attention_mask`.

        Raises:
            ValueError: If the messages have another form, or the template is broken.
        """
        if kwargs.get("tokenize"):
            processor_kwargs = dict(kwargs.get("processor_kwargs") or {})
            given_rate = processor_kwargs.get("sampling_rate", kwargs.pop("sampling_rate", None))
            conversation, has_audio = resolve_audio_parts(
                conversation, lambda audio, rate: self._waveform(audio, rate or given_rate)
            )
            if has_audio:
                processor_kwargs["sampling_rate"] = self.codec_config.sampling_rate
            if kwargs.get("return_dict") and "return_tensors" not in processor_kwargs:
                kwargs.setdefault("return_tensors", "pt")  # `generate` takes a dictionary
            for name in TOKENIZER_OPTIONS & kwargs.keys():  # the base class takes them here, too, with a warning
                processor_kwargs[name] = kwargs.pop(name)
            kwargs["processor_kwargs"] = processor_kwargs
        try:
            return super().apply_chat_template(conversation, chat_template, **kwargs)
        except TemplateError as error:
            raise ValueError(
                f"The chat template cannot be rendered ({type(error).__name__}: {error}): mend chat_template.jinja of "
                "the checkpoint, or give `chat_template`."
            ) from error

    def __call__(
        self,
        text: str | list[str] | None = None,
        audio: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """
        Tokenize rendered prompts, with each `<|audio|>` replaced by the codes of audio.

        A text without a message in it is tokenized as it is, unless `bare_text_task` names its task: `"tts"` in a
        processor that `pipeline("text-to-speech")` loaded, `None` otherwise.

        Args:
            text (`str` or `list[str]`): Rendered prompts (most callers want `apply_chat_template`).
            audio (*optional*): Audio, or a list with one for each `<|audio|>`, in order; each in any form that
                `load_audio` takes.
            kwargs: `sampling_rate` of bare arrays, and arguments of the tokenizer: `return_tensors`, `padding`, ...

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask`, padded on the left.

        Raises:
            ValueError: If there is no text, placeholders and audio differ in number, or images or videos are given.
        """
        # transformers passes them as None. They are not in the signature, from which it reads the modalities.
        if kwargs.pop("images", None) is not None or kwargs.pop("videos", None) is not None:
            raise ValueError("A Text-to-Talk model takes text and audio only.")
        if text is None:
            raise ValueError(
                f"Give `text` with one {AUDIO_PLACEHOLDER} for each audio, or messages to `prepare` "
                '(`processor.messages("asr", audio=...)` writes them).'
            )
        prompts = [text] if isinstance(text, str) else list(text)
        for prompt in prompts:
            check_text(prompt)
        if self.bare_text_task is not None and not any(BEGIN_OF_MESSAGE in prompt for prompt in prompts):
            if self.bare_text_task == "tts":
                prompts = [spoken_text(without_drawings(prompt)) for prompt in prompts]
                kwargs["reply_texts"] = prompts
            return self.prepare([self.messages(self.bare_text_task, prompt, audio) for prompt in prompts], **kwargs)
        options = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        given = as_audio_list(audio)
        count = sum(prompt.count(AUDIO_PLACEHOLDER) for prompt in prompts)
        # A sanitized prompt has the user's own placeholders as plain text: they are neither counted nor replaced.
        if count != len(given) and not kwargs.get("sanitize_control_tokens"):
            raise ValueError(
                f"The text has {count} {AUDIO_PLACEHOLDER} placeholders, but audio for {len(given)}: give one for each."
            )
        sampling_rate = options["audio_kwargs"].get("sampling_rate")
        replacements = [self._audio_text(self.encode_audio(each, sampling_rate)) for each in given]
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
        """Outputs of the tokenizer that no decoder takes."""
        return ["token_type_ids"]


def default_chat_template(system_prompts: dict[str, str] | None) -> str:
    """The chat template with the system prompt of chat."""
    return chat_template((system_prompts or {}).get("chat", TASKS["chat"].system_prompt))


TttProcessor.register_for_auto_class()
