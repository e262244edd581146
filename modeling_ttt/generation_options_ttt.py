"""
The options of `generate`: their defaults, which of them a caller sets, and their checks.

Independent of models and token ids.
"""

import math
import numbers
from typing import Any

import torch
from transformers import GenerationConfig

from .denoising_rules_ttt import REMASKING_RULES

# The options of this model are fields of a plain GenerationConfig, beside transformers' own; these are the defaults
# where neither it nor the caller sets them.
GENERATION_DEFAULTS: dict[str, Any] = {
    "block_length": 32,
    "first_block_length": None,
    "denoising_steps": 10,
    "reveal_schedule": "linear",
    "remasking": "low_confidence",
    "confidence_threshold": None,
    "entropy_bound": None,
    "block_early_stop": False,
    "audio_temperature": 0.0,
    "audio_top_k": None,
    "audio_top_p": None,
    "audio_guidance_scale": None,
    "max_span_length": None,
}
LONGEST_BLOCK = 4096  # the cost of a block grows with the square of its length
# Dividing float32 scores by less overflows, and a larger one draws noise; 0 of audio is greedy.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 1e-5, 100.0
HIGHEST_GUIDANCE = 100.0
CHOICES: dict[str, tuple[str, ...]] = {
    "remasking": tuple(REMASKING_RULES),
    "reveal_schedule": ("linear",),
}
ACCEPTANCE_OPTIONS = ("confidence_threshold", "entropy_bound")  # each replaces `reveal_schedule`
UNSUPPORTED_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def asked_options(generation_config: GenerationConfig | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """
    Give the options that a caller sets: arguments of `generate`, then a config that is passed.

    They go before the checkpoint's `generation_config.json`. An argument `None` switches an option off where it can
    be off, as with transformers' own options, and is ignored otherwise; a rule of how many positions a step reveals
    switches off the checkpoint's other one.
    """
    asked = {name: getattr(generation_config, name, None) for name in GENERATION_DEFAULTS}
    if any(arguments.get(name) is not None for name in ("reveal_schedule", *ACCEPTANCE_OPTIONS)):
        asked |= dict.fromkeys(ACCEPTANCE_OPTIONS)
    asked |= arguments
    asked = {
        name: value
        for name, value in asked.items()
        if value is not None or (name in arguments and GENERATION_DEFAULTS[name] is None)
    }
    if any(asked.get(name) is not None for name in ("reveal_schedule", *ACCEPTANCE_OPTIONS)):
        asked = dict.fromkeys(ACCEPTANCE_OPTIONS) | asked
    return asked


def check_generation_config(config: GenerationConfig) -> None:
    """
    Check the options of a call.

    Args:
        config (`GenerationConfig`): All options, the defaults included.

    Raises:
        ValueError: An option is out of its range, not supported, or excludes another one.
    """
    for name in ("block_length", "denoising_steps"):
        if not _is_count(getattr(config, name)):
            raise ValueError(f"`{name}` must be an integer of at least 1, got {getattr(config, name)!r}.")
    for name in ("first_block_length", "max_span_length", "audio_top_k"):
        value = getattr(config, name)
        if value is not None and not _is_count(value):
            raise ValueError(f"`{name}` must be an integer of at least 1 or None, got {value!r}.")
    for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
        value = getattr(config, name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if not all(_is_token_id(token_id) for token_id in ids):
            raise ValueError(f"`{name}` must be a token id, a list of them or None, got {value!r}.")
    for name in ("block_length", "first_block_length"):
        if (getattr(config, name) or 1) > LONGEST_BLOCK:
            raise ValueError(f"`{name}` must be at most {LONGEST_BLOCK}, got {getattr(config, name)!r}.")
    for name in ("audio_temperature", "temperature") if config.do_sample else ("audio_temperature",):
        value = getattr(config, name)
        is_allowed = value is None or (_is_number(value) and LOWEST_TEMPERATURE <= value <= HIGHEST_TEMPERATURE)
        if not is_allowed and not (value == 0 and name == "audio_temperature"):
            raise ValueError(
                f"`{name}` must be a number from {LOWEST_TEMPERATURE:g} to {HIGHEST_TEMPERATURE:g}"
                f"{', or 0' if name == 'audio_temperature' else ''}, got {value!r}."
            )
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            raise ValueError(f"`{name}` must be {' or '.join(map(repr, choices))}, got {getattr(config, name)!r}.")
    for name, upper in (
        ("audio_guidance_scale", HIGHEST_GUIDANCE),
        ("confidence_threshold", 1.0),
        ("audio_top_p", 1.0),
        ("entropy_bound", float("inf")),
    ):
        value = getattr(config, name)
        if value is not None and not (_is_number(value) and 0 <= value <= upper):
            raise ValueError(f"`{name}` must be a number between 0 and {upper:g}, got {value!r}.")
    if config.confidence_threshold is not None and config.entropy_bound is not None:
        raise ValueError(
            "`confidence_threshold` and `entropy_bound` both decide how many positions a step reveals; pass one of "
            "them, or set the other to None."
        )
    if config.guidance_scale not in (None, 1):
        raise ValueError(
            "`guidance_scale` is not supported: its unconditional branch is computed on text alone, without audio; "
            "leave it out, or use `audio_guidance_scale`."
        )
    for name in UNSUPPORTED_OUTPUTS:
        if getattr(config, name):
            raise ValueError(f"`{name}` is not supported: text and audio are scored over different ids; leave it out.")


def _is_count(value: object) -> bool:
    return isinstance(value, numbers.Integral) and int(value) >= 1


def _is_token_id(value: object) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point()
    return isinstance(value, numbers.Integral) and abs(int(value)) < 2**31


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not math.isnan(value)
