"""
A processor and its codec: loaded from a folder or the Hub, saved and pushed, and the codec's calls.

Depends on the vocabulary only for the size of its codebook. Independent of the layout, prompts and replies.
"""

import copy
import logging
import os
from functools import partial
from typing import Any

import numpy as np
from huggingface_hub import CommitInfo, ModelCard
from transformers import ProcessorMixin
from typing_extensions import Self

from .audio_input_ttt import Waveform, load_audio
from .codec_adapter_ttt import adapted_config
from .codec_interface_ttt import Codec, CodecConfig, CodecStream
from .codec_loading_ttt import OWN_CODEC, CodecHandle, names_outside_folder
from .encode_stream_ttt import AudioEncodeStream, PiecewiseEncodeStream, WholeEncodeStream
from .hub_ttt import processor_card, push_with_card
from .vocabulary_ttt import TttVocabulary

logger = logging.getLogger(__name__)

# A pipeline names its task when it loads a processor. A text-to-audio pipeline passes bare texts to the processor.
_SPEAKING_PIPELINES = ("text-to-audio", "text-to-speech")
_CODEC_KWARGS = ("cache_dir", "force_download", "local_files_only", "token", "trust_remote_code")


TRANSCRIPTION_SECONDS = 30.0  # by default


class TttPreTrainedProcessor(ProcessorMixin):
    """Loading, saving and codec of [`TttProcessor`], which sets the attributes below."""

    vocabulary: TttVocabulary
    codec_name_or_path: str
    max_audio_seconds: float | None
    _codec_handle: CodecHandle
    bare_text_task: str | None = None  # task of a text that is no rendered prompt

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Self:
        """
        Load a processor; its codec is loaded on first use from the same folder or Hub repository (same revision, same
        token).

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args: As for `ProcessorMixin.from_pretrained`.
            kwargs: As for `ProcessorMixin.from_pretrained`; also the arguments of the class, which override settings.

        Returns:
            [`TttProcessor`]: The processor.
        """
        loading_kwargs = {key: kwargs[key] for key in _CODEC_KWARGS if kwargs.get(key) is not None}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        processor = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with `return_unused_kwargs`
        if kwargs.get("_from_pipeline") in _SPEAKING_PIPELINES:
            processor.bare_text_task = "tts"
        if "codec_name_or_path" not in kwargs and names_outside_folder(processor.codec_name_or_path):
            logger.warning(
                "The checkpoint %r names a codec outside of its folder, %r: use it only if you know that folder.",
                os.fspath(pretrained_model_name_or_path),
                processor.codec_name_or_path,
            )
        processor._codec_handle = CodecHandle(
            processor.codec_name_or_path,
            source=os.fspath(pretrained_model_name_or_path),
            subfolder=kwargs.get("subfolder", ""),
            revision=kwargs.get("revision"),
            loading_kwargs=loading_kwargs,
        )
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """
        Write the processor, its tokenizer, its codec and the code of all three to a folder.

        Args:
            save_directory (`str` or `os.PathLike`): The folder.
            push_to_hub (`bool`, defaults to `False`): Also upload it; `repo_id`, `token`, ... are those of
                `push_to_hub`.
            kwargs: Arguments of `push_to_hub`, `repo_id` among them; ignored without it.

        Returns:
            `list[str]`: The path of `processor_config.json`.
        """
        folder = os.fspath(save_directory)
        os.makedirs(folder, exist_ok=True)
        saved = copy.copy(self)
        saved.codec_name_or_path = self._codec_handle.save(folder)
        files = ProcessorMixin.save_pretrained(saved, folder)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", os.path.basename(os.path.abspath(folder))), **kwargs)
        return files

    def push_to_hub(self, repo_id: str, *, card: ModelCard | None = None, **kwargs: Any) -> CommitInfo:
        """
        Upload the processor, its tokenizer, its codec and the code of all three, in one commit; usually to the
        model's repository.

        Args:
            repo_id (`str`): Repository, made if needed.
            card (`huggingface_hub.ModelCard`, *optional*): By default the repository keeps its own.
            kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        kwargs["commit_message"] = kwargs.get("commit_message") or "Upload processor"
        return push_with_card(self, repo_id, card, processor_card(repo_id), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """
        Collect the processor's settings, with the codec's name.

        Returns:
            `dict[str, Any]`: The content of `processor_config.json`.
        """
        output = super().to_dict()
        if output.get("system_prompts") is None:
            output.pop("system_prompts", None)
        if output.get("transcription_seconds") == TRANSCRIPTION_SECONDS:
            output.pop("transcription_seconds")
        if output.get("spoken_input") is False:
            output.pop("spoken_input")
        return output

    # Codec

    @property
    def codec(self) -> Any:
        """The [`Codec`], loaded on first use. Assign one of your own; move it with `processor.codec.to("cuda")`."""
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.model

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._check_codec(adapted_config(codec.config))
        self._codec_handle.model = codec

    @property
    def codec_config(self) -> CodecConfig:
        """The codec's configuration (rates, frame rate, size of the codebook); reading it does not load the codec."""
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.config

    def encode_audio(self, audio: Any, sampling_rate: int | None = None) -> list[int]:
        """
        Encode audio.

        Args:
            audio: Audio in any form that `load_audio` takes: path, bytes, open file, array with rate,
                `datasets.Audio` value.
            sampling_rate (`int`, *optional*): Rate of a bare array, in Hz.

        Returns:
            `list[int]`: Codes, `codec_config.frame_rate` of them per second.
        """
        return self._codec_handle.encode(self._waveform(audio, sampling_rate))

    def encode_stream(self, sampling_rate: int) -> AudioEncodeStream:
        """
        Begin to encode audio that arrives piece by piece.

        Args:
            sampling_rate (`int`): Rate of the audio, in Hz.

        Returns:
            [`AudioEncodeStream`]: Takes samples with `push(samples)`, ends with `finish()`; both return codes as
                `encode_audio` does. Where the codec cannot encode in pieces (`is_piecewise`), all of them come at the
                end.
        """
        self._check_codec(self._codec_handle.config)
        stream = self._codec_handle.encode_stream()
        if stream is None:
            return WholeEncodeStream(partial(self.encode_audio, sampling_rate=sampling_rate))
        return PiecewiseEncodeStream(stream, sampling_rate, self.codec_config.sampling_rate, self.max_audio_seconds)

    def decode_codes(self, codes: list[int]) -> np.ndarray:
        """
        Decode codes.

        Args:
            codes (`list[int]`): Codec codes; no codes give no samples and do not load the codec.

        Returns:
            `np.ndarray` of shape `(samples,)`, float32, at `codec_config.output_sampling_rate`.
        """
        if len(codes) == 0:
            return np.zeros(0, dtype=np.float32)
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.decode(codes)

    def codec_stream(self) -> CodecStream:
        """
        Begin to decode codes that arrive piece by piece.

        Returns:
            [`CodecStream`]: Takes codes with `push(codes)`, ends with `finish()`; both return samples as `decode_codes`
            does.
        """
        self._check_codec(self._codec_handle.config)
        return self._codec_handle.stream()

    def _check_codec(self, config: CodecConfig) -> None:
        if config.codebook_size != self.vocabulary.codebook_size:
            raise ValueError(
                f"The codec {self.codec_name_or_path!r} has {config.codebook_size} codes, but the tokenizer's audio "
                f"alphabet has {self.vocabulary.codebook_size}: they must be the same codec's."
            )

    def _waveform(self, audio: Any, sampling_rate: int | None) -> Waveform:
        return load_audio(audio, self.codec_config.sampling_rate, sampling_rate, self.max_audio_seconds)


def check_settings(
    tokenizer: Any,
    codec_name_or_path: Any,
    max_audio_seconds: Any,
    transcription_seconds: Any,
    system_prompts: Any,
    spoken_input: Any,
) -> None:
    """Refuse settings of another type, as a damaged file gives them, where they enter."""
    if not isinstance(codec_name_or_path, str) or not codec_name_or_path:
        raise ValueError(f"`codec_name_or_path` is {codec_name_or_path!r}: give {OWN_CODEC!r}, a folder, or a Hub id.")
    for name, value in (("max_audio_seconds", max_audio_seconds), ("transcription_seconds", transcription_seconds)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
        if not is_number and not (value is None and name == "max_audio_seconds"):
            raise ValueError(f"`{name}` must be a positive number, got {value!r}.")
    if not isinstance(spoken_input, bool):
        raise ValueError(f"`spoken_input` must be true or false, got {spoken_input!r}.")
    if system_prompts is not None and not isinstance(system_prompts, dict):
        raise ValueError(f"`system_prompts` must be prompts by task, got {system_prompts!r}.")
    for task, prompt in (system_prompts or {}).items():
        if not isinstance(prompt, str):
            raise ValueError(f"The system prompt of {task!r} must be text, got {prompt!r}.")
    if tokenizer.pad_token is not None and tokenizer.pad_token_id is None:
        raise ValueError(f"`pad_token` of the tokenizer is {tokenizer.pad_token!r}, which is not in its vocabulary.")
    if not isinstance(tokenizer.model_max_length, (int, float)):
        raise ValueError(f"`model_max_length` of the tokenizer must be a number, got {tokenizer.model_max_length!r}.")
