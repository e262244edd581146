"""
What loading, saving and publishing add to transformers' own: copied source files, a model card, the end of a reply.

Depends on folders and repositories. Independent of layers and decoding.
"""

import os
from typing import Any

from huggingface_hub import CommitInfo, ModelCard
from transformers import GenerationConfig, PreTrainedModel

from .configuration_ttt import TttConfig
from .model_card_ttt import push_with_card

# A saved config names for every Auto class the source file beside it.
AUTO_MAP = {
    "AutoConfig": "configuration_ttt.TttConfig",
    "AutoModel": "modeling_ttt.TttForConditionalGeneration",
    "AutoModelForCausalLM": "modeling_ttt.TttForConditionalGeneration",
    "AutoModelForMultimodalLM": "modeling_ttt.TttForConditionalGeneration",
    "AutoModelForTextToWaveform": "modeling_ttt.TttForConditionalGeneration",
}


class TttPreTrainedModel(PreTrainedModel):
    """Loading, saving and initialisation of Text-to-Talk models."""

    config_class = TttConfig
    base_model_prefix = "model"
    engine = "torch"  # what runs the forward passes
    input_modalities = ("text", "audio")
    output_modalities = ("text", "audio")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_flash_attn = False  # takes no mask, so a span cannot attend to itself in both directions
    _supports_attention_backend = True

    # Saving copies the source files, so that the folder loads with `trust_remote_code=True` without this package.
    _auto_class = "AutoModel"

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args: Any, **kwargs: Any) -> str:
        if "flash" in (attn_implementation or ""):
            raise ValueError(
                f"attn_implementation={attn_implementation!r} cannot be used: flash attention takes no mask, and in an "
                "audio span every position also sees later ones. Use sdpa (the default), flex_attention or eager."
            )
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override]  # named options before those of the base class
        cls, pretrained_model_name_or_path: str | os.PathLike, *args: Any, engine: str = "torch", **kwargs: Any
    ) -> Any:
        """
        Load a checkpoint.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): Folder or Hub id.
            args: As for `PreTrainedModel.from_pretrained`.
            engine (`str`, *optional*, defaults to `"torch"`): What runs the forward passes: PyTorch, or with `"onnx"`
                ONNX Runtime, from a folder that `ttt export` wrote.
            kwargs: As for `PreTrainedModel.from_pretrained`.

        Returns:
            The model in eval mode; with `output_loading_info=True` its loading information.

        Raises:
            ValueError: The engine is unknown.
        """
        if engine == "torch":
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        if engine == "onnx":
            from .onnx_ttt import TttOnnxForConditionalGeneration

            return TttOnnxForConditionalGeneration.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        raise ValueError(f'`engine` must be "torch" or "onnx", got {engine!r}.')

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save weights, config and source files; every Auto class that holds the model is named in the config."""
        self.config.auto_map = dict(AUTO_MAP)
        if self.can_generate():
            # transformers drops the options of this package from a config marked as derived from the model's.
            self.generation_config._from_model_config = False
        super().save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, *, card: ModelCard | None = None, **kwargs: Any) -> CommitInfo:
        """
        Upload weights, configs, source files and a model card, in one commit.

        Args:
            repo_id (`str`): Repository, made if needed.
            card (`huggingface_hub.ModelCard`, *optional*): From `modeling_ttt.model_card`, with language, licence,
                base model and measured numbers. By default the repository's own card stays, and a repository without
                one gets a plain one.
            kwargs: `private`, `token`, `revision`, `create_pr`, `commit_message`, `commit_description`,
                `max_shard_size`.

        Returns:
            `huggingface_hub.CommitInfo`: The commit.
        """
        return push_with_card(self, repo_id, card, **kwargs)

    def adjust_generation_fn(self, generation_config: GenerationConfig | None, *args: Any, **kwargs: Any) -> None:
        """Load generation options; those of a plain language model also get `config.eos_token_id`."""
        super().adjust_generation_fn(generation_config, *args, **kwargs)
        if generation_config is None and self.config.eos_token_id is not None:
            ends = [*_as_list(self.generation_config.eos_token_id), *_as_list(self.config.eos_token_id)]
            ends = list(dict.fromkeys(ends))
            self.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


__all__ = ["AUTO_MAP", "TttPreTrainedModel"]
