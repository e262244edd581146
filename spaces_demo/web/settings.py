"""
What the page without a server needs of a checkpoint: token ids, decoding options, prompts, the codec's windows.

Depends on a model's configuration, its processor and the manifest of its export. Independent of files and browsers.
"""

from typing import Any

from transformers import GenerationConfig

from modeling_ttt import TttConfig
from modeling_ttt.generation_options_ttt import GENERATION_DEFAULTS
from processing_ttt import TttProcessor
from processing_ttt.tasks_ttt import system_prompt

PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"  # placeholder of the user's text in a rendered prompt
TASKS = ("chat", "asr", "tts")
# Options of decoding that the page has; any other must have its default.
OPTIONS = {
    "block_length": "blockLength",
    "first_block_length": "firstBlockLength",
    "denoising_steps": "denoisingSteps",
    "entropy_bound": "entropyBound",
    "block_early_stop": "blockEarlyStop",
}
IGNORED = ("_from_model_config", "eos_token_id", "pad_token_id", "bos_token_id", "sampling_rate", "max_new_tokens")


def decoding_options(config: TttConfig, generation: GenerationConfig) -> dict[str, Any]:
    """
    Give the options of decoding to the page.

    Args:
        config ([`TttConfig`]): The model's.
        generation (`GenerationConfig`): The checkpoint's.

    Returns:
        `dict`: By their names in `decoder.js`.

    Raises:
        ValueError: The page does not have an option that is set, or the attention of the model's spans.
    """
    if config.span_block_length is not None:
        raise ValueError("The page decodes models whose spans are seen whole, not block by block: use `ttt demo`.")
    asked = {name: value for name, value in generation.to_diff_dict().items() if name not in IGNORED}
    asked.pop("transformers_version", None)
    for name, value in asked.items():
        if name not in OPTIONS and value != GENERATION_DEFAULTS.get(name):
            raise ValueError(
                f"The page cannot decode with `{name}` {value!r} of generation_config.json: remove it there, or use "
                "`ttt demo`."
            )
    if not generation.max_new_tokens:
        raise ValueError("generation_config.json has no `max_new_tokens`, by which the page limits a reply.")
    known = {
        own: asked.get(name) if asked.get(name) is not None else GENERATION_DEFAULTS[name]
        for name, own in OPTIONS.items()
    }
    return {"maxNewTokens": generation.max_new_tokens, **known}


def markers(config: TttConfig, eos_token_id: int | list[int]) -> dict[str, Any]:
    """
    Give the token ids with a meaning to the page.

    Args:
        config ([`TttConfig`]): The model's.
        eos_token_id (`int` or `list[int]`): What ends a reply.

    Returns:
        `dict`: By their names in `decoder.js`.
    """
    ids = config.markers()
    return {
        "audioStartId": ids.audio_token_start_id,
        "codeOffset": ids.audio_code_offset,
        "codebookSize": ids.audio_codebook_size,
        "maskId": ids.mask_token_id,
        "beginIds": ids.begin_token_ids,
        "endIds": ids.end_token_ids,
        "eligibleIds": [*ids.codes, *ids.end_token_ids],
        "eosIds": eos_token_id if isinstance(eos_token_id, list) else [eos_token_id],
    }


def prompts(processor: TttProcessor) -> dict[str, tuple[str, str]]:
    """
    Give what is written before and after the user's message, for each task.

    Args:
        processor ([`TttProcessor`]): The checkpoint's.

    Returns:
        `dict[str, tuple[str, str]]`: Rendered by the chat template.
    """
    rendered = {}
    for task in TASKS:
        messages = [
            {"role": "system", "content": system_prompt(task, system_prompts=processor.system_prompts)},
            {"role": "user", "content": PLACE},
        ]
        before, after = processor.apply_chat_template(messages, add_generation_prompt=True).split(PLACE)
        rendered[task] = (before, after)
    return rendered


def settings(config: TttConfig, generation: GenerationConfig, processor: Any, codec: dict[str, Any]) -> dict[str, Any]:
    """
    Give all that the page needs, for `settings.json`.

    Args:
        config ([`TttConfig`]): The model's.
        generation (`GenerationConfig`): The checkpoint's.
        processor ([`TttProcessor`]): The checkpoint's.
        codec (`dict`): Of the export's manifest.

    Returns:
        `dict`: What `Talker` of `talker.js` takes.
    """
    vocabulary, text = processor.vocabulary, config.text_config
    control_ids = [
        vocabulary.begin_audio_token_id,
        vocabulary.begin_last_audio_token_id,
        vocabulary.end_user_audio_token_id,
        vocabulary.begin_message_token_id,
        vocabulary.eos_token_id,
        vocabulary.pad_token_id,
    ]
    head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "markers": markers(config, generation.eos_token_id)
        | {"controlIds": control_ids, "endUserAudioId": vocabulary.end_user_audio_token_id},
        "options": decoding_options(config, generation),
        "prompts": prompts(processor),
        "spokenInput": processor.spoken_input,
        "shape": {"numLayers": text.num_hidden_layers, "heads": text.num_key_value_heads, "size": head_size},
        "maxLength": text.max_position_embeddings,
        "codec": {
            "samplingRate": codec["sampling_rate"],
            "samplesPerCode": codec["samples_per_code"],
            "context": codec["decode_context"],
            "lookahead": codec["decode_lookahead"],
            "maxCodes": codec["max_segment_frames"] or int(30 * codec["sampling_rate"] / codec["samples_per_code"]),
        },
    }
