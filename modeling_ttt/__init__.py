"""
Token ids -> token ids: the Text-to-Talk model, its objective and its decoder.

Importing registers `TttConfig` and `TttForConditionalGeneration` with transformers' Auto classes.
"""

from pathlib import Path

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMultimodalLM,
    AutoModelForTextToWaveform,
)

from .configuration_ttt import TttConfig
from .convert_ttt_to_hf import convert_released_model
from .generation_ttt import TttGenerateOutput
from .masking_ttt import audio_span_ids
from .model_card_ttt import model_card
from .modeling_ttt import TttForConditionalGeneration, TttOutput
from .pretrained_ttt import TttPreTrainedModel

AutoConfig.register(TttConfig.model_type, TttConfig, exist_ok=True)
for _auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoModelForTextToWaveform):
    _auto_class.register(TttConfig, TttForConditionalGeneration, exist_ok=True)


def nano_checkpoint() -> Path:
    """
    Find the small checkpoint in the box: package data once installed, a sibling folder in a checkout.

    Returns:
        `Path`: Folder that `from_pretrained` takes.

    Raises:
        FileNotFoundError: if the installation lacks it.
    """
    package = Path(__file__).resolve().parent
    for parent in (package, package.parent):
        folder = parent / "checkpoints" / "ttt-nano"
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(
        "The nano checkpoint is missing from this installation; install the package again, or pass a model folder or "
        "Hub id."
    )


__all__ = [
    "TttConfig",
    "TttForConditionalGeneration",
    "TttGenerateOutput",
    "TttOutput",
    "TttPreTrainedModel",
    "audio_span_ids",
    "convert_released_model",
    "model_card",
    "nano_checkpoint",
]
