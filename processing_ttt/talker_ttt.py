"""
The front door: a model with its processor, from audio or text to a [`TttReply`].

    audio or text ── messages, prepare ──► inputs ── model.generate ──► ids ── decode_reply ──► TttReply

Depends on the processor and on transformers' Auto classes. Independent of the model's package, which registers itself.
"""

import os
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoProcessor, BatchFeature
from typing_extensions import Self

from .context_ttt import check_audio_fits
from .conversation_ttt import TttConversation
from .device_ttt import choose_device
from .loading_faults_ttt import check_adapter, faults_named, load_whole
from .processing_ttt import TttProcessor
from .reading_ttt import TextReader
from .reply_ttt import TttReply
from .streaming_ttt import GeneratesReplies, TttStreamer
from .tasks_ttt import Messages
from .tasks_ttt import system_prompt as task_system_prompt
from .transcribing_ttt import Transcriber
from .transcript_ttt import TttTranscript

MODEL_TYPE = "ttt"


class TttTalker:
    """
    One call from audio or text to a reply.

    Args:
        model (`TttForConditionalGeneration` or `PeftModel`): The model.
        processor (`TttProcessor`): Processor of the same checkpoint.
        language (`str`, *optional*): Language tag of every prompt (`it`); English needs none.
        generation_options: Arguments of every `generate` call (`denoising_steps=8`, ...); they override the
            checkpoint's.

    Example:
        ```python
        talker = TttTalker.from_pretrained("checkpoints/ttt-nano")
        reply = talker.reply(text="What is two plus three?")
        print(reply.text)
        reply.save("reply.wav")
        ```
    """

    def __init__(
        self,
        model: GeneratesReplies,
        processor: TttProcessor,
        language: str | None = None,
        **generation_options: Any,
    ):
        self.model: Any = model  # a PEFT model has further methods
        self.processor = processor
        self.language = language
        self.generation_options = generation_options

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        adapter: str | os.PathLike | None = None,
        language: str | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        engine: str = "torch",
        **generation_options: Any,
    ) -> Self:
        """
        Load a checkpoint. For other loading options, use the Auto classes and `TttTalker(model, processor)`.

        Args:
            name_or_folder (`str` or `os.PathLike`): Folder or Hub id of a checkpoint.
            device (`str` or `torch.device`, *optional*): Where the model runs; by default a GPU if there is one.
            dtype (`str` or `torch.dtype`, *optional*): Number format of the weights; the checkpoint's by default.
            adapter (`str` or `os.PathLike`, *optional*): Folder or Hub id of a PEFT adapter of this checkpoint.
            language (`str`, *optional*): Language tag of every prompt.
            revision (`str`, *optional*): Branch, tag or commit on the Hub.
            trust_remote_code (`bool`, defaults to `False`): Run the checkpoint's own code if the model's package was
                not imported.
            engine (`str`, *optional*, defaults to `"torch"`): `"onnx"` runs a folder that `ttt export` wrote on ONNX
                Runtime, on the CPU.
            generation_options: Arguments of every `generate` call.

        Returns:
            [`TttTalker`]: With the model in eval mode.

        Raises:
            ImportError: If the model's package was not imported and remote code is not trusted, or PEFT is missing.
            OSError: If there is no such checkpoint, or its weights are damaged.
            ValueError: If the checkpoint is of another kind of model.
        """
        source, chosen = os.fspath(name_or_folder), choose_device(device)
        loading: dict[str, Any] = {"trust_remote_code": trust_remote_code}
        if revision is not None:
            loading["revision"] = revision
        _check_source(source, trust_remote_code, loading)
        if engine == "torch":
            model = load_whole(AutoModel, source, dtype=dtype or "auto", **loading)
        elif adapter is not None or str(device or "auto") not in ("auto", "cpu"):
            raise ValueError(f"The engine {engine!r} runs on the CPU and takes no adapter: merge it and export again.")
        else:
            model, chosen = AutoModel.from_pretrained(source, engine=engine, **loading), "cpu"
        if adapter is not None:
            model = _with_adapter(model, adapter)
        with faults_named(f"the processor of {source!r}"):
            processor = AutoProcessor.from_pretrained(source, **loading)
        return cls(model.to(chosen).eval(), processor, language, **generation_options)

    def reply(
        self,
        audio: Any = None,
        text: str | None = None,
        task: str = "chat",
        *,
        language: str | None = None,
        system_prompt: str | None = None,
        **generate_kwargs: Any,
    ) -> TttReply:
        """
        Answer one question.

        Args:
            audio (*optional*): The user's audio, in any form that `load_audio` takes: path, bytes, array with rate, ...
            text (`str`, *optional*): The user's text. Give either this or `audio`.
            task (`str`, defaults to `"chat"`): `chat`, `asr`, `tts`, `text` or `caption`.
            language (`str`, *optional*): Language tag; replaces the talker's.
            system_prompt (`str`, *optional*): Replaces the system prompt of the task, language included.
            generate_kwargs: Arguments of this `generate` call, which override the talker's.

        Returns:
            [`TttReply`]: Text, and audio of shape `(samples,)`; `(0,)` for a task with a text reply.

        Raises:
            ValueError: If both or neither of `audio` and `text` came, the task cannot take it, or audio is unusable.
        """
        _check_question(audio, text)
        messages = self._messages(task, language, system_prompt, text=text, audio=audio)
        if task == "tts" and text is not None:
            return self._reader(generate_kwargs).read([text], language or self.language, system_prompt)[0]
        return self.reply_messages([messages], **generate_kwargs)[0]

    def stream(
        self,
        audio: Any = None,
        text: str | None = None,
        task: str = "chat",
        *,
        language: str | None = None,
        system_prompt: str | None = None,
        drafts: bool = False,
        queue_size: int = 64,
        **generate_kwargs: Any,
    ) -> TttStreamer:
        """
        Answer one question, and follow the reply while it is generated in another thread.

        Args:
            audio, text, task, language, system_prompt, generate_kwargs: As for `reply`.
            drafts (`bool`, defaults to `False`): Whether blocks of audio are events while they are denoised.
            queue_size (`int`, defaults to 64): Largest number of waiting events; beyond it `generate` waits.

        Returns:
            [`TttStreamer`]: A context manager; yields [`TttTextDelta`], [`TttAudioChunk`] and [`TttBlockDraft`].

        Raises:
            ValueError: As for `reply`.

        Example:
            ```python
            with talker.stream(audio="question.wav") as stream:
                for event in stream:
                    print(event)
            ```
        """
        _check_question(audio, text)
        messages = self._messages(task, language, system_prompt, text=text, audio=audio)
        if task == "tts" and text is not None:
            reader = self._reader(generate_kwargs)
            return TttStreamer(self.processor, drafts, queue_size).follow(
                lambda streamer: reader.stream_to(streamer, text, language or self.language, system_prompt)
            )
        inputs = self.processor.prepare(messages).to(self.model.device)
        options = self.generation_options | generate_kwargs
        check_audio_fits(self.model, self.processor, inputs["input_ids"], **options)
        return self.processor.stream_reply(self.model, inputs, drafts, queue_size, **options)

    def reply_batch(
        self,
        audio: list[Any] | None = None,
        text: list[str] | None = None,
        task: str = "chat",
        *,
        language: str | None = None,
        system_prompt: str | None = None,
        **generate_kwargs: Any,
    ) -> list[TttReply]:
        """
        Answer several questions in one batch. With greedy decoding each reply is the one that the question gets alone.

        Args:
            audio (`list`, *optional*): The users' audio, each in any form that `load_audio` takes.
            text (`list[str]`, *optional*): The users' texts. Give either this or `audio`.
            task, language, system_prompt, generate_kwargs: As for `reply`, for all questions.

        Returns:
            `list[TttReply]`: In the order of the questions.

        Raises:
            ValueError: As for `reply`.
            TypeError: If `audio` or `text` is no list.
        """
        _check_question(audio, text)
        questions = audio if text is None else text
        if not isinstance(questions, (list, tuple)):
            raise TypeError(
                f"`reply_batch` takes a list of questions, not a {type(questions).__name__}: use `reply` for one."
            )
        if not questions:
            return []
        name = "audio" if text is None else "text"
        if task == "tts" and text is not None:
            return self._reader(generate_kwargs).read(text, language or self.language, system_prompt)
        prompts = [self._messages(task, language, system_prompt, **{name: question}) for question in questions]
        return self.reply_messages(prompts, **generate_kwargs)

    def transcribe(
        self,
        audio: Any,
        *,
        language: str | None = None,
        system_prompt: str | None = None,
        max_seconds: float | None = None,
        **generate_kwargs: Any,
    ) -> TttTranscript:
        """
        Transcribe a recording of any length, in pieces cut at pauses.

        Args:
            audio: In any form that `load_audio` takes.
            language (`str`, *optional*): Language tag; replaces the talker's.
            system_prompt (`str`, *optional*): Replaces the system prompt of the task, language included.
            max_seconds (`float`, *optional*): Longest piece, in seconds; the processor's `transcription_seconds` by
                default.
            generate_kwargs: Arguments of every `generate` call, which override the talker's.

        Returns:
            [`TttTranscript`]: Text and segments, one for each piece.

        Raises:
            ValueError: If the audio is unusable.

        Example:
            ```python
            print(talker.transcribe("interview.wav").format("srt"))
            ```
        """
        options = self.generation_options | generate_kwargs
        transcriber = Transcriber(self.model, self.processor, max_seconds, **options)
        return transcriber.transcribe(audio, language or self.language, system_prompt)

    def reply_messages(self, messages: list[Messages], **generate_kwargs: Any) -> list[TttReply]:
        """
        Answer prompts of any form, tasks mixed, in one batch.

        Args:
            messages (`list[list[dict]]`): Messages of each prompt, as `processor.messages` writes them.
            generate_kwargs: Arguments of this `generate` call, which override the talker's.

        Returns:
            `list[TttReply]`: In the order of the prompts.
        """
        inputs = self.processor.prepare(messages).to(self.model.device)
        return self.processor.batch_decode_reply(self.reply_ids(inputs, **generate_kwargs))

    def conversation(self, system_prompt: str | None = None, **generate_kwargs: Any) -> TttConversation:
        """
        Begin a conversation of several turns over one cache.

        Args:
            system_prompt (`str`, *optional*): Replaces the system prompt of the task `chat`, language included.
            generate_kwargs: Arguments of every `generate` call, which override the talker's.

        Returns:
            [`TttConversation`]: Takes turns with `say` and `stream`.
        """
        if system_prompt is None:
            system_prompt = task_system_prompt("chat", self.language, self.processor.system_prompts)
        options = self.generation_options | generate_kwargs
        return TttConversation(self.model, self.processor, system_prompt, **options)

    def prepare(
        self,
        audio: Any = None,
        text: str | None = None,
        task: str = "chat",
        language: str | None = None,
        system_prompt: str | None = None,
    ) -> BatchFeature:
        """
        Turn one question into the inputs of `generate`.

        Args:
            audio, text, task, language, system_prompt: As for `reply`.

        Returns:
            `BatchFeature`: `input_ids` and `attention_mask` of shape `(1, length)`, on the model's device.

        Raises:
            ValueError: As for `reply`.
        """
        _check_question(audio, text)
        messages = self._messages(task, language, system_prompt, text=text, audio=audio)
        return self.processor.prepare(messages).to(self.model.device)

    def reply_ids(self, inputs: Any, **generate_kwargs: Any) -> torch.LongTensor:
        """
        Generate replies to prepared prompts.

        Args:
            inputs (`BatchFeature` or `dict`): `input_ids` and `attention_mask` of shape `(batch, length)`, left-padded.
            generate_kwargs: Arguments of this `generate` call, which override the talker's.

        Returns:
            `torch.LongTensor` of shape `(batch, reply_length)`: Token ids after the prompts, padded on the right.
        """
        options = self.generation_options | generate_kwargs
        check_audio_fits(self.model, self.processor, inputs["input_ids"], **options)
        ids = self.model.generate(**inputs, **options)
        return ids[:, inputs["input_ids"].shape[1] :]

    def _reader(self, generate_kwargs: dict[str, Any]) -> TextReader:
        return TextReader(self.model, self.processor, **self.generation_options | generate_kwargs)

    def _messages(self, task: str, language: str | None, system_prompt: str | None, **question: Any) -> Messages:
        return self.processor.messages(
            task, language=language or self.language, system_prompt=system_prompt, **question
        )


def _check_question(audio: object, text: object) -> None:
    if (audio is None) == (text is None):
        raise ValueError(
            f"Give either `audio` or `text`, but {'neither' if text is None else 'both'} came: for other "
            "messages, use `processor.messages` and `processor.prepare`."
        )


def _check_source(source: str, trust_remote_code: bool, loading: dict[str, Any]) -> None:
    """Refuse what cannot be loaded, with the way out, before weights are read."""
    if not os.path.isdir(source) and (source.startswith((".", "~", os.sep)) or source.count("/") > 1):
        raise FileNotFoundError(f"There is no folder {source!r}, and it is no Hub id (owner/name) either.")
    if MODEL_TYPE not in CONFIG_MAPPING and not trust_remote_code:
        raise ImportError(
            "The model's package is not imported: `import modeling_ttt`, or take `TttTalker` from `text_to_talk`. "
            "Where it is not installed, `trust_remote_code=True` runs the checkpoint's own code instead."
        )
    if os.path.isfile(os.path.join(source, "adapter_config.json")):
        raise ValueError(
            f"{source!r} is an adapter and no whole model: pass it as `adapter`, on the command line by --adapter, or "
            "merge it (`ttt merge`)."
        )
    with faults_named(f"the configuration of {source!r}"):
        model_type = AutoConfig.from_pretrained(source, **loading).model_type
    if model_type != MODEL_TYPE:
        raise ValueError(
            f"{source!r} is a {model_type} model and not Text-to-Talk yet: `ttt convert` turns a released checkpoint "
            "into one, `ttt init` starts one from a language model."
        )


def _with_adapter(model: Any, adapter: str | os.PathLike) -> Any:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise ImportError("An adapter needs PEFT: `pip install peft`.") from error
    with faults_named(f"the adapter {os.fspath(adapter)!r}"):
        adapted = PeftModel.from_pretrained(model, os.fspath(adapter))
        check_adapter(adapted, adapted.active_adapter, adapter)
    return adapted
