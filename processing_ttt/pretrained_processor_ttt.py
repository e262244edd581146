"""
A processor as files: loaded from a folder or the Hub, saved and pushed, with its codec beside it.

Knows folders, repositories and where a codec lies. Knows no tokens and no waveform.
"""

import copy
import os
from typing import Any

from huggingface_hub import CommitInfo, ModelCard
from transformers import ProcessorMixin
from typing_extensions import Self

from .codec_loading_ttt import CodecHandle
from .hub_ttt import processor_card, push_with_card

# A pipeline names its task when it loads a processor. Those that make audio of text give the processor bare texts.
_SPEAKING_PIPELINES = ("text-to-audio", "text-to-speech")
_CODEC_KWARGS = ("cache_dir", "force_download", "local_files_only", "token", "trust_remote_code")


class TttPreTrainedProcessor(ProcessorMixin):
    """Loading and saving of [`TttProcessor`], which sets the codec's name and its handle."""

    codec_name_or_path: str
    _codec_handle: CodecHandle
    bare_text_task: str | None = None  # what a text that is no rendered prompt asks for

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, **kwargs: Any) -> Self:
        """
        Load a processor; its codec waits in the same folder or Hub repository (same revision, same token) until it is
        needed.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args: As for `ProcessorMixin.from_pretrained`.
            kwargs: As for `ProcessorMixin.from_pretrained`; also the arguments of the class, to change a setting.

        Returns:
            [`TttProcessor`]: The processor.
        """
        loading_kwargs = {key: kwargs[key] for key in _CODEC_KWARGS if kwargs.get(key) is not None}
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        processor = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with `return_unused_kwargs`
        if kwargs.get("_from_pipeline") in _SPEAKING_PIPELINES:
            processor.bare_text_task = "tts"
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
            kwargs: Of `push_to_hub`, with `repo_id`; without it they change nothing.

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
            card (`huggingface_hub.ModelCard`, *optional*): By default the repository's own stays.
            kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        kwargs["commit_message"] = kwargs.get("commit_message") or "Upload processor"
        return push_with_card(self, repo_id, card, processor_card(repo_id), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """
        Write the processor's settings. The codec is there by its name.

        Returns:
            `dict[str, Any]`: What `processor_config.json` holds.
        """
        output = super().to_dict()
        if output.get("system_prompts") is None:
            output.pop("system_prompts", None)
        return output
