"""
The card of a trained model or adapter: data, training, measurements, and the commands to repeat them.

Depends on `training.json`, the recipe and the results of `ttt evaluate`. Independent of weights.
"""

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from finetune.runs import Facts
from finetune.training.recipe import Recipe, by_their_names
from modeling_ttt import TttConfig, model_card
from modeling_ttt.model_card_ttt import TAG

_ADAPTER_BODY = """# {title}

An adapter for the Text-to-Talk model [`{base}`](https://huggingface.co/{base}): it writes text token by token \
and speaks by denoising blocks of audio tokens.

## Use

```python
from peft import PeftModel
from transformers import AutoModel, AutoProcessor

import modeling_ttt, processing_ttt  # pip install text-to-talk

model = PeftModel.from_pretrained(AutoModel.from_pretrained("{base}"), "{name}")
processor = AutoProcessor.from_pretrained("{base}")
```

or `ttt talk --model {base} --adapter {name}{tagged} --audio question.wav`. \
Several adapters on one loaded model: `finetune.adapters.lora.load_adapters`.

{about}

## Measured

{measured}
"""


def card_of_model(
    name: str, config: TttConfig, facts: Facts, base_model: str | None, datasets: Sequence[str], **metadata: Any
) -> ModelCard:
    """
    Write the card of a whole model.

    Args:
        name (`str`): Hub id or folder it will have.
        config ([`TttConfig`]): Its configuration.
        facts ([`Facts`]): Of its training.
        base_model (`str`, *optional*): Hub id of what it was trained from.
        datasets (`Sequence[str]`): Hub ids of its data.
        metadata: `language`, `license`, ...

    Returns:
        `huggingface_hub.ModelCard`
    """
    return model_card(
        name,
        config,
        base_model=base_model,
        datasets=datasets,
        measured=_measured(facts),
        about=_about(name, facts),
        **metadata,
    )


def card_of_adapter(name: str, facts: Facts, base_model: str, datasets: Sequence[str], **metadata: Any) -> ModelCard:
    """
    Write the card of an adapter; arguments as for `card_of_model`.

    Returns:
        `huggingface_hub.ModelCard`
    """
    data = ModelCardData(
        base_model=base_model,
        datasets=list(datasets) or None,
        library_name="peft",
        pipeline_tag="any-to-any",
        tags=[TAG, "lora"],
        **metadata,
    )
    rows = [f"| {what} | {number} |" for what, number in _measured(facts).items()]
    body = _ADAPTER_BODY.format(
        title=os.path.basename(os.path.normpath(name)),
        name=name,
        base=base_model,
        tagged=_language_option(facts),
        about=_about(name, facts),
        measured="\n".join(["| what | measured |", "|---|---|", *rows]) if rows else "Nothing yet.",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def _measured(facts: Facts) -> Mapping[str, str]:
    """The numbers of the evaluation, a row each."""
    skipped = ("model", "data", "task", "threads", "peak_memory_bytes", "count")
    short = _short_names({result["data"] for result in facts.results})
    return {
        f"{result['task']}, {short[result['data']]}, {name.replace('_', ' ')} (n = {result['count']})": f"{value:.3f}"
        for result in facts.results
        for name, value in result.items()
        if name not in skipped and isinstance(value, float)
    }


def _language_option(facts: Facts) -> str:
    """The option of `ttt talk` for the adapter's language, where all its data was in one language."""
    default = facts.recipe.get("default_language", Recipe().default_language)
    languages = facts.training.get("languages", [])
    return f" --language {shlex.quote(languages[0])}" if len(languages) == 1 and languages[0] != default else ""


def _short_names(paths: Collection[str]) -> dict[str, str]:
    """The shortest ends of paths that differ from those of the others."""
    parts = {path: Path(path).parts for path in paths}
    short = {}
    for path, own in parts.items():
        others = [other for name, other in parts.items() if name != path]
        length = next((n for n in range(1, len(own)) if own[-n:] not in [other[-n:] for other in others]), len(own))
        short[path] = str(Path(*own[-length:]))
    return short


def _changed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a recipe whose values are not the defaults."""
    defaults = vars(Recipe())
    return {
        name: value for name, value in by_their_names(recipe).items() if name in defaults and value != defaults[name]
    }


def _about(name: str, facts: Facts) -> str:
    """Data, training and commands."""
    training = facts.training
    lines = []
    if training:
        lines += [
            "## Training",
            "",
            "| what | |",
            "|---|---|",
            f"| data | {training['hours']:.2f} hours of audio, {training['examples']} examples, "
            f"languages: {', '.join(training['languages']) or 'not stated'} |",
            f"| method | {training['method']}, {training['trained_parameters']:,} trained parameters |",
            f"| length | {training['updates']} updates, {training['epochs']} epochs, {training['tokens']:,} tokens |",
            f"| time and memory | {training['seconds'] / 60:.1f} minutes ({training['cpu_seconds'] / 60:.1f} of CPU), "
            f"peak {training['peak_memory_bytes'] / 2**30:.2f} GiB, {training['device']}, {training['processes']} "
            "process(es) |",
        ]
        lines += [f"| best {metric} in validation | {value:.3f} |" for metric, value in training["best_metric"].items()]
    changed = _changed(facts.recipe)
    if changed:
        settings = " ".join(
            f"--set {key}={value}" for key, value in changed.items() if key not in ("stages", "output_dir")
        )
        lines += ["", "Commands:", "", "```bash", f"ttt train {settings} --set output_dir=run"]
        lines += [
            f"ttt evaluate {name} --data {data}" for data in dict.fromkeys(result["data"] for result in facts.results)
        ]
        lines += ["```"]
    return "\n".join(lines)
