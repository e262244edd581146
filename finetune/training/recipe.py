"""
The recipe of a training run: a YAML file, overridden on the command line, checked before any work is done.

    model: checkpoints/ttt-nano
    data: prepared/italian
    learning_rate: 2e-4

`Recipe` lists every key with its default. A recipe may also hold `stages`, a list of such keys each: the stages are
trained one after the other, each from what the one before it left, and a key of a stage overrides the recipe's.

Depends on names, types and defaults. Independent of models and data.
"""

import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from finetune.yaml_files import parse_yaml, read_yaml, shown

METHODS = ("lora", "qlora", "rows", "full")
OBJECTIVES = ("paper", "two_stream")
OPTIMIZERS = ("adamw", "muon")
GENERATION_METRICS = ("wer", "cer", "tts_cer")
SHIPPED = Path(__file__).parents[1] / "recipes"
LARGEST = {  # numbers that, larger, only fill memory or fail late
    "seed": 2**32 - 1,
    "lora_r": 4096,
    "max_length": 2**20,
    "per_device_train_batch_size": 2**16,
    "max_new_tokens": 2**20,
    "dataloader_num_workers": 1024,
}
# What may change when a run goes on, because it decides nothing about it.
MAY_CHANGE = (
    "output_dir",
    "report_to",
    "dataloader_num_workers",
    "compile_layers",
)
# What is known of other trainers by a key that a recipe does not have, and that resembles another one.
HINTS = {
    "lr": "did you mean `learning_rate`?",
    "save_steps": "a checkpoint is written at each validation, every `eval_steps` updates.",
    "save_strategy": "a checkpoint is written at each validation, every `eval_steps` updates.",
}
OTHER_NAMES = {"misheard_codes": "replaced_prompt_codes", "validation_sounds": "validation_texts"}  # are read, too


@dataclass(frozen=True)
class Recipe:
    """
    Everything that decides a run. Names that `transformers.TrainingArguments` has too mean the same here.

    Args:
        model (`str`): Folder or Hub id of the checkpoint to start from.
        data (`str`): Folder that `ttt prepare` wrote, or a `data.yaml` that mixes several.
        output_dir (`str`): Where checkpoints, curves and the result go. The same command goes on from the last
            checkpoint there.
        stages (`list[dict]`): Keys of each stage, see above; `name` names its folder.
        method (`str`): `lora`; `qlora` (LoRA over weights in 4 bits); `rows` (only the markers and the audio
            alphabet); `full`.
        lora_r (`int`): Rank of the adapter.
        lora_alpha (`int`): Its scale: updates are multiplied by alpha / r.
        lora_dropout (`float`): Dropout on the adapter's input.
        target_modules (`str`): Which layers get one: `all-linear`, or names separated by commas.
        train_audio_rows (`bool`): Also train the rows of the markers and the audio alphabet, in the embedding and in
            the output projection.
        objective (`str`): `paper` noises the audio of an example; `two_stream` leaves it clean and puts noised copies
            of its blocks behind it, as decoding sees them. Packed rows then hold the copies too, as many as fit, and of
            the next five keys only the last counts. `method: full` writes it into the model's configuration.
        clean_audio_prob (`float`): BANOM, see `Objective`.
        prefix_preservation_prob (`float`): PPM.
        span_truncation_prob (`float`): SST.
        block_fill_prob (`float`): Share of examples whose spans are filled to whole blocks of the model's
            `block_length`, for models that speak in aligned groups of words, as nano does.
        replaced_prompt_codes (`float`): Largest share of the codes of a prompt that are replaced by others, against
            memorising recordings.
        aligned (`int`): Words per group where the data has word times; 0 is the layout's fixed pattern.
        default_language (`str`): Prompts in this language carry no tag of their language.
        tasks (`str`): Tasks to learn, separated by commas; all that the data can teach by default.
        num_train_epochs (`float`): Passes over the data ...
        max_steps (`int`): ... or updates, if positive.
        per_device_train_batch_size (`int`): Rows of a batch: examples, or packed rows.
        gradient_accumulation_steps (`int`): Batches of an update.
        packing (`bool`): Lay several examples into a row. Without it examples of similar length share a batch.
        max_length (`int`): Longest example, and length of a packed row. Longer examples are left out and counted.
        optimizer (`str`): `adamw`; `muon` (for the matrices of the layers; AdamW for the rest) with `method: full`.
        learning_rate (`float`): Peak.
        lr_scheduler_type (`str`): As in transformers.
        warmup_ratio (`float`): Share of the updates in which the learning rate rises.
        weight_decay (`float`): Of AdamW.
        adam_beta2 (`float`): Of AdamW.
        max_grad_norm (`float`): Gradients are scaled down to this norm.
        bf16 (`bool`): Compute in bfloat16. Weights that are trained stay float32.
        gradient_checkpointing (`bool`): Compute activations again instead of keeping them.
        compile_layers (`bool`): Compile the backbone's layers: on a GPU the first update takes longer, and all others
            are faster. Packed rows of training then all have `max_length` positions; without `packing` every new
            length is compiled anew.
        seed (`int`): Decides everything that is random.
        logging_steps (`int`): Updates between two points of the curves.
        eval_steps (`float`): Updates between two validations, below 1 their share of the run; each also writes a
            checkpoint.
        early_stopping_patience (`int`): Validations without improvement after which training stops; 0 never stops.
        metric_for_best_model (`str`): `wer` or `cer` of transcriptions, `tts_cer` of speech as the model itself
            transcribes it, or `loss`.
        validation_examples (`int`): Recordings that each validation transcribes.
        validation_texts (`int`): Texts that each validation reads aloud.
        max_new_tokens (`int`): Longest reply in validation.
        save_total_limit (`int`): Checkpoints to keep, besides the best.
        dataloader_num_workers (`int`): Processes that make batches.
        report_to (`str`): `tensorboard`, `wandb`, `trackio`, several separated by commas, or `none`.
    """

    model: str = ""
    data: str = ""
    output_dir: str = ""
    stages: list[dict[str, Any]] = field(default_factory=list)

    method: str = "lora"
    lora_r: int = 32
    lora_alpha: int = 64
    lora_dropout: float = 0.0
    target_modules: str = "all-linear"
    train_audio_rows: bool = True

    objective: str = "paper"
    clean_audio_prob: float = 0.3
    prefix_preservation_prob: float = 0.3
    span_truncation_prob: float = 0.5
    block_fill_prob: float = 0.0
    replaced_prompt_codes: float = 0.0
    aligned: int = 0
    default_language: str = "en"
    tasks: str = ""

    num_train_epochs: float = 3.0
    max_steps: int = -1
    per_device_train_batch_size: int = 4
    gradient_accumulation_steps: int = 1
    packing: bool = True
    max_length: int = 2048
    optimizer: str = "adamw"
    learning_rate: float = 2e-4
    lr_scheduler_type: str = "cosine"
    warmup_ratio: float = 0.03
    weight_decay: float = 0.01
    adam_beta2: float = 0.95
    max_grad_norm: float = 1.0
    bf16: bool = True
    gradient_checkpointing: bool = False
    compile_layers: bool = False
    seed: int = 0

    logging_steps: int = 10
    eval_steps: float = 100
    early_stopping_patience: int = 5
    metric_for_best_model: str = "wer"
    validation_examples: int = 32
    validation_texts: int = 2
    max_new_tokens: int = 512
    save_total_limit: int = 2
    dataloader_num_workers: int = 0
    report_to: str = "tensorboard"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"`method` is one of {', '.join(METHODS)}, but is {self.method!r}.")
        if self.objective not in OBJECTIVES:
            raise ValueError(f"`objective` is one of {', '.join(OBJECTIVES)}, but is {self.objective!r}.")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"`optimizer` is one of {', '.join(OPTIMIZERS)}, but is {self.optimizer!r}.")
        if self.optimizer == "muon" and self.method != "full":
            raise ValueError(
                f"`optimizer: muon` trains whole matrices: it goes with `method: full`, not {self.method!r}."
            )
        for name in (
            "clean_audio_prob",
            "prefix_preservation_prob",
            "span_truncation_prob",
            "block_fill_prob",
            "replaced_prompt_codes",
            "warmup_ratio",
        ):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be from 0 to 1, but is {getattr(self, name)}.")
        for name in (
            "lora_r",
            "per_device_train_batch_size",
            "gradient_accumulation_steps",
            "max_length",
            "logging_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")
        for name, largest in LARGEST.items():
            if not 0 <= getattr(self, name) <= largest:
                raise ValueError(f"`{name}` must be from 0 to {largest}, but is {getattr(self, name)}.")
        if self.eval_steps <= 0 or (self.eval_steps >= 1 and self.eval_steps != int(self.eval_steps)):
            raise ValueError(f"`eval_steps` is a number of updates, or a share below 1, but is {self.eval_steps}.")
        self._check_metric()
        if self.save_total_limit < 2:
            raise ValueError(
                "`save_total_limit` must be at least 2: while the last checkpoint is written, the one before is what "
                "counts."
            )
        if self.learning_rate <= 0 or (self.max_steps <= 0 and self.num_train_epochs <= 0):
            raise ValueError("`learning_rate` and `num_train_epochs` (or `max_steps`) must be positive.")

    def _check_metric(self) -> None:
        """Refuse a metric that no validation of this recipe measures: transformers would fail after the first one."""
        metric = self.metric_for_best_model
        if metric not in (*GENERATION_METRICS, "loss"):
            raise ValueError(
                f"`metric_for_best_model` is one of {', '.join(GENERATION_METRICS)} and loss, but is {metric!r}."
            )
        needed = ["validation_examples"] * (metric in GENERATION_METRICS) + ["validation_texts"] * (metric == "tts_cer")
        for name in needed:
            if getattr(self, name) < 1:
                raise ValueError(f"`metric_for_best_model: {metric}` needs `{name}` of at least 1; `loss` needs none.")

    def stage_recipes(self) -> list[tuple[str, "Recipe"]]:
        """
        Take the stages apart.

        Returns:
            `list[tuple[str, Recipe]]`: Name and recipe of each stage, in order, each writing to its own folder below
            `output_dir`; the recipe itself if it has none.
        """
        if not self.stages:
            return [("", self)]
        shared = replace(self, stages=[])
        recipes = []
        for number, keys in enumerate(self.stages, 1):
            if not isinstance(keys, dict):
                raise ValueError(f"A stage is lines of `key: value`, but one is {shown(keys)}.")
            name = _stage_name(keys, number)
            if Path(name).name != name or name in ("", ".", ".."):
                raise ValueError(f"A stage's name becomes a folder, which {name!r} cannot.")
            own = {key: value for key, value in keys.items() if key != "name"}
            recipes.append((name, override(shared, {"output_dir": str(Path(self.output_dir) / name)} | own)))
        return recipes

    def require(self, *names: str) -> None:
        """Check that the recipe has keys without a default."""
        for name in names:
            if not getattr(self, name):
                raise ValueError(f"The recipe does not say `{name}`: write it there or pass --set {name}=...")


def by_their_names(keys: Mapping[str, Any]) -> dict[str, Any]:
    """Replace keys of a recipe that have one of `OTHER_NAMES`."""
    return {OTHER_NAMES.get(name, name): value for name, value in keys.items()}


def override(recipe: Recipe, keys: Mapping[str, Any]) -> Recipe:
    """
    Change keys of a recipe.

    Args:
        recipe (`Recipe`): Stays as it is.
        keys (`Mapping[str, Any]`): Values as YAML or the command line gives them.

    Returns:
        `Recipe`: A new one.

    Raises:
        ValueError: If a key is unknown (the nearest known one is named) or a value is not of its type.
    """
    kinds = typing.get_type_hints(Recipe)
    names = [known.name for known in fields(Recipe)]
    keys = by_their_names(keys)
    for name in keys:
        if not isinstance(name, str):
            raise ValueError(f"A recipe's keys are words, but one is {shown(name)}.")
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(names)}."
            raise ValueError(f"A recipe has no key `{name}`: {HINTS.get(name, hint)}")
    return replace(recipe, **{name: _typed(name, value, kinds[name]) for name, value in keys.items()})


def read_recipe(path: Path | None, assignments: Iterable[str] = ()) -> Recipe:
    """
    Read a recipe and override some of its keys.

    Args:
        path (`Path`, *optional*): A YAML file, or the name of a shipped one (`low_resource_lora`); without it the
            defaults are the recipe.
        assignments (iterable of `str`): `key=value` each, the value as YAML writes it; `STAGE.key=value` for a key of
        a stage.

    Returns:
        `Recipe`: Checked.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no mapping, an assignment has no `=`, a key is unknown or a value wrong, or stages
        would override it.
    """
    keys: dict[str, Any] = {}
    if path is not None:
        shipped = SHIPPED / f"{path.name}.yaml"
        if not path.is_file() and path == Path(path.name) and shipped.is_file():
            path = shipped
        if not path.is_file():
            names = ", ".join(sorted(found.stem for found in SHIPPED.glob("*.yaml")))
            raise FileNotFoundError(f"There is no recipe {str(path)!r}; shipped are {names}.")
        read = read_yaml(path)
        if not isinstance(read, dict):
            raise ValueError(f"{str(path)!r} is not a recipe: a recipe is lines of `key: value`.")
        keys |= read
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ValueError(f"--set takes key=value, but got {assignment!r}.")
        _assign(keys, name.strip(), parse_yaml(value, f"--set {assignment}"))
    recipe = override(Recipe(), keys)
    recipe.stage_recipes()  # a mistake in the last stage shows before the first one is trained
    return recipe


def _stage_name(stage: Mapping[str, Any], number: int) -> str:
    return str(stage.get("name", f"stage-{number}"))


def _assign(keys: dict[str, Any], name: str, value: Any) -> None:
    """Set a key of a recipe, or of one of its stages; one that stages set themselves would not reach them."""
    written = keys.get("stages")
    numbered = enumerate(written if isinstance(written, list) else [], 1)
    stages = {_stage_name(stage, number): stage for number, stage in numbered if isinstance(stage, dict)}
    wanted, dot, key = name.rpartition(".")
    if dot:
        if wanted not in stages:
            raise ValueError(f"--set {name}=...: the recipe has no stage {wanted!r}.")
        stages[wanted][key] = value
        return
    owners = [owner for owner, stage in stages.items() if name in stage]
    if owners:
        raise ValueError(
            f"The stages {', '.join(owners)} set `{name}` themselves, and --set {name}=... would not reach them: --set "
            f"{owners[0]}.{name}=..."
        )
    keys[name] = value


def _typed(name: str, value: Any, kind: Any) -> Any:
    """Take a value for a key: YAML reads `2e-4` as text, and 3 where 3.0 is meant."""
    plain = typing.get_origin(kind) or kind
    if plain is list:
        if not isinstance(value, list):
            raise ValueError(f"`{name}` is a list, but is {shown(value)}.")
        return value
    try:
        if plain is bool and not isinstance(value, bool):
            raise ValueError
        if plain is int and (isinstance(value, bool) or int(value) != float(value)):
            raise ValueError
        if plain is str and isinstance(value, (dict, bool)):
            raise ValueError
        if plain is str and isinstance(value, (list, tuple)):
            if not all(isinstance(item, (str, int, float)) for item in value):
                raise ValueError
            return ",".join(map(str, value))
        if plain is float and not math.isfinite(float(value)):
            raise ValueError
        return plain("" if value is None and plain is str else value)
    except (TypeError, ValueError, OverflowError):  # the last is of infinity as an integer
        raise ValueError(
            f"`{name}` is of type {plain.__name__}{' and finite' if plain is float else ''}, but is {shown(value)}."
        ) from None
