"""
Train a Text-to-Talk model on prepared data, by a recipe.

    ttt train finetune/recipes/low_resource_lora.yaml --set model=checkpoints/ttt-nano \\
        --set data=prepared/italian --set output_dir=runs/italian
    # several GPUs or nodes
    accelerate launch --config_file finetune/accelerate/ddp.yaml -m finetune.train RECIPE --set ...

1. The recipe is checked, and kept in the output folder: a folder belongs to one recipe.
2. Examples are made of the prepared records; their lengths decide how they share batches (`batch_plan.py`).
3. transformers' Trainer trains (`trainer.py`), from the last complete checkpoint in the folder if there is one
   (`resume.py`).
4. The best weights by the recipe's metric are written beside the checkpoints: an adapter, or a whole model with its
   processor.

Depends on the modules beside it, which do the steps.
"""

import contextlib
import json
import logging
import os
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import filelock
import torch
import yaml
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed
from transformers.integrations import TensorBoardCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from finetune.adapters.loading import load_model, load_processor, split_model_name
from finetune.adapters.lora import add_adapter
from finetune.data.schema import replace_text
from finetune.hardware import computes_bfloat16
from finetune.runs import LOCK_FILE, RECIPE_FILE, RESULT_FILE
from finetune.yaml_files import read_yaml
from processing_ttt import TttProcessor

from .batch_plan import RowPlan
from .muon import MuonAdamW
from .recipe import MAY_CHANGE, Recipe, by_their_names
from .resume import CheckpointMarker, check_same_data, last_complete_checkpoint
from .trainer import FlushLogs, TttTrainer
from .training_data import (
    NoisingCollator,
    PlannedRows,
    TrainingData,
    check_codec_of_model,
    read_data,
    training_objective,
    validation_rows,
)
from .validation import AudioSink, TrackerAudio, Validation

MERGED_BASE = "base"  # subfolder of a stage that started from an adapter: the adapter merged into its base
# What transformers calls recomputing activations: `gradient_checkpointing` up to 5.23.
_CHECKPOINTING = (
    "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
)

logger = logging.getLogger(__name__)


def train(recipe: Recipe) -> Path:
    """
    Train all stages of a recipe, or what is left of them.

    Args:
        recipe ([`Recipe`]): Decides everything.

    Returns:
        `Path`: Folder of the last stage's result.

    Raises:
        ValueError: If the recipe lacks a key, or the folder belongs to another recipe or process, or data and model do
            not fit, or the data changed since the run began, or no checkpoint to resume from is whole.
        DivergedError: If the loss or weights become NaN or infinite.
    """
    recipe.require("model", "data", "output_dir")
    model = recipe.model
    folder = Path(recipe.output_dir)
    for _, stage in recipe.stage_recipes():
        folder = Path(stage.output_dir)
        _train_stage(replace(stage, model=model))
        model = str(folder)
    return folder


def _train_stage(recipe: Recipe) -> None:
    """Train one stage and write its result; a stage that is finished is left alone."""
    folder = Path(recipe.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / LOCK_FILE, timeout=0)
    try:
        with lock if _is_main_process() else contextlib.nullcontext():
            _claim(folder, recipe)
            if (folder / RESULT_FILE).is_file():
                logger.warning("%s is trained already.", folder)
            else:
                _train_in(folder, recipe)
    except filelock.Timeout as error:
        raise ValueError(
            f"Another process is training in {str(folder)!r}: wait, or choose another output_dir."
        ) from error


def _train_in(folder: Path, recipe: Recipe) -> None:
    if recipe.bf16 and not computes_bfloat16():
        logger.warning(
            "This machine computes bfloat16 in a slow way: --set bf16=false trains several times as fast here."
        )
    set_seed(recipe.seed)
    model, processor = load_trainable(recipe)
    if _is_main_process():  # a large codec is loaded once
        check_codec_of_model(recipe, processor)
    data = read_data(recipe, processor, training_objective(recipe, model.config, model.block_length))
    resumed = last_complete_checkpoint(folder)
    if resumed is not None:
        logger.warning("The run in %s goes on from %s.", folder, resumed.name)
        check_same_data(resumed, data.fingerprint)
    marks = CheckpointMarker(resumed, data.fingerprint)
    trainer = build_trainer(recipe, model, processor, data)
    trainer.add_callback(marks)
    trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        if recipe.method == "full":
            processor.save_pretrained(folder)
        result = _result(trainer, data, recipe) | marks.spent()
        replace_text(folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")


def _claim(folder: Path, recipe: Recipe) -> None:
    """
    Write the recipe into its folder, or check that it is the one that is there; the recipe of a run without a result or
    a checkpoint is replaced.
    """
    path, own = folder / RECIPE_FILE, asdict(recipe)
    if path.is_file():
        written = read_yaml(path)
        if not isinstance(written, dict):
            raise ValueError(f"{str(path)!r} is damaged: it is not the recipe of a run. Choose another output_dir.")
        there = asdict(Recipe()) | by_their_names(written)
        changed = [name for name in own if name not in MAY_CHANGE and there[name] != own[name]]
        if changed and ((folder / RESULT_FILE).is_file() or any(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"))):
            raise ValueError(
                f"{str(folder)!r} holds a run of another recipe ({', '.join(changed)} differ): go on with that recipe, "
                "or choose another output_dir."
            )
        if changed and _is_main_process():  # what the other recipe started from, merged
            shutil.rmtree(folder / MERGED_BASE, ignore_errors=True)
    if _is_main_process():
        replace_text(path, yaml.safe_dump(own, sort_keys=False, allow_unicode=True))


def load_trainable(recipe: Recipe) -> tuple[Any, TttProcessor]:
    """
    Load what a recipe trains.

    Args:
        recipe ([`Recipe`]): Of one stage.

    Returns:
        `tuple`: The model, with a fresh adapter around it unless the whole model is trained, and its processor.

    Raises:
        ValueError: If weights in four bits would have to be merged with an adapter first.
    """
    processor = load_processor(recipe.model)
    starts_from_adapter = split_model_name(recipe.model)[1] is not None
    if starts_from_adapter and recipe.method == "qlora":
        raise ValueError(
            f"{recipe.model!r} is an adapter, which cannot be merged into weights of four bits: `ttt merge` it, and "
            "start from that folder."
        )
    computes_in_half = recipe.method != "full" and recipe.bf16 and torch.cuda.is_available()
    dtype = torch.bfloat16 if computes_in_half else torch.float32
    model = load_model(recipe.model, dtype, **_quantization(recipe))
    if recipe.method == "full":
        model.config.objective = recipe.objective  # is saved with it
        return model.train().requires_grad_(True), processor  # an adapter that was merged left its base frozen
    if starts_from_adapter:  # a new adapter needs a base that others can load too
        base = Path(recipe.output_dir) / MERGED_BASE
        if _is_main_process() and not (base / "processor_config.json").is_file():
            model.save_pretrained(base)
            processor.save_pretrained(base)
        model.name_or_path = str(base)
    return add_adapter(model, processor.vocabulary, recipe), processor


def _is_main_process() -> bool:
    """Ask before the Trainer has set up its processes."""
    return os.environ.get("RANK", "0") == "0"


def _quantization(recipe: Recipe) -> dict[str, Any]:
    if recipe.method != "qlora":
        return {}
    import bitsandbytes  # noqa: F401 - it is missed here, and not after the weights are read
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if recipe.bf16 else torch.float32
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
    return {"quantization_config": config}


def build_trainer(recipe: Recipe, model: Any, processor: TttProcessor, data: TrainingData) -> TttTrainer:
    """
    Put model, data and options together.

    Args:
        recipe ([`Recipe`]): Of one stage.
        model: What is trained.
        processor ([`TttProcessor`]): The model's.
        data ([`TrainingData`]): From `read_data`.

    Returns:
        [`TttTrainer`]: Ready to train.
    """
    folder = Path(recipe.output_dir)
    arguments = training_arguments(recipe, validates=bool(data.validation), transcribes=bool(data.recordings))
    rows_per_update = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
    row_length = recipe.max_length if recipe.packing else None
    plan = RowPlan(data.lengths, data.order, rows_per_update, row_length, recipe.seed)
    if recipe.max_steps <= 0:
        arguments.max_steps = max(1, -(-plan.rows_of(recipe.num_train_epochs) // rows_per_update))
    objective = training_objective(recipe, model.config, model.block_length)
    if recipe.compile_layers:
        compile_layers(model)
    fixed_length = row_length if recipe.compile_layers else None  # another length would be compiled anew
    trainer = TttTrainer(
        model=model,
        args=arguments,
        train_dataset=PlannedRows(data.examples, plan, arguments.max_steps),
        eval_dataset=validation_rows(data.validation) if data.validation else None,
        data_collator=NoisingCollator(processor.vocabulary, objective, recipe.seed, recipe.packing, fixed_length),
        optimizers=(_optimizer(recipe, model), None),
        is_compiled=recipe.compile_layers,
    )
    trainer.add_callback(FlushLogs())
    if data.validation and recipe.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(recipe.early_stopping_patience))
    sinks = _report(recipe, trainer)
    if data.recordings:
        trainer.check_generation = Validation(
            processor,
            data.recordings,
            recipe.validation_texts,
            folder=folder / "samples" if trainer.is_world_process_zero() else None,
            sinks=sinks,
            options={"max_new_tokens": recipe.max_new_tokens},
            default_language=recipe.default_language,
        )
    return trainer


def compile_layers(model: Any) -> None:
    """
    Compile the backbone's layers in place: one is compiled, and all of its kind run the same code.

    Args:
        model: With or without an adapter. Names of parameters stay what they are.

    Raises:
        ValueError: If the model does not name its layers.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ValueError("This backbone does not name the class of its layers: --set compile_layers=false.")
    for layer in layers:
        layer.compile()


def _optimizer(recipe: Recipe, model: Any) -> torch.optim.Optimizer | None:
    """The optimiser that the Trainer would not make itself."""
    if recipe.optimizer != "muon":
        return None
    return MuonAdamW(model, recipe.learning_rate, recipe.weight_decay, (0.9, recipe.adam_beta2))


def training_arguments(recipe: Recipe, validates: bool, transcribes: bool) -> TrainingArguments:
    """
    Translate a recipe for transformers.

    Args:
        recipe ([`Recipe`]): Of one stage.
        validates (`bool`): Whether there is validation data.
        transcribes (`bool`): Whether there are recordings among it, on which error rates can be measured.

    Returns:
        `TrainingArguments`

    Raises:
        ValueError: If the best weights are to be chosen by a metric that this data cannot give.
    """
    metric = recipe.metric_for_best_model
    if validates and not transcribes and metric != "loss":
        raise ValueError(
            f"The validation split has no recordings, so {metric!r} cannot be measured: set "
            "metric_for_best_model=loss, or prepare recordings."
        )
    best = (
        {"eval_strategy": "steps", "load_best_model_at_end": True, "metric_for_best_model": metric} if validates else {}
    )
    return TrainingArguments(
        output_dir=recipe.output_dir,
        max_steps=recipe.max_steps if recipe.max_steps > 0 else 1,
        per_device_train_batch_size=recipe.per_device_train_batch_size,
        per_device_eval_batch_size=recipe.per_device_train_batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.lr_scheduler_type,
        warmup_steps=recipe.warmup_ratio,  # below 1 it is a share
        weight_decay=recipe.weight_decay,
        adam_beta2=recipe.adam_beta2,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=recipe.seed,
        logging_steps=recipe.logging_steps,
        logging_nan_inf_filter=False,  # the Trainer of this package ends such a run
        disable_tqdm=not sys.stderr.isatty(),  # a log has a line for each point of the curves
        eval_steps=recipe.eval_steps,
        save_steps=recipe.eval_steps,
        save_total_limit=recipe.save_total_limit,
        greater_is_better=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        dataloader_num_workers=recipe.dataloader_num_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[name for name in _trackers(recipe) if name != "tensorboard"],
        **{_CHECKPOINTING: recipe.gradient_checkpointing, f"{_CHECKPOINTING}_kwargs": {"use_reentrant": False}},
        **best,
    )


def _trackers(recipe: Recipe) -> list[str]:
    return [name.strip() for name in recipe.report_to.split(",") if name.strip() not in ("", "none")]


def _report(recipe: Recipe, trainer: TttTrainer) -> list[AudioSink]:
    """Send curves to the recipe's `report_to`, and list what also takes audio."""
    if not trainer.is_world_process_zero():
        return []
    sinks: list[AudioSink] = []
    for name in _trackers(recipe):
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            sinks.append(SummaryWriter(str(Path(recipe.output_dir) / "curves")))
            trainer.add_callback(TensorBoardCallback(sinks[-1]))
        else:
            sinks.append(TrackerAudio(name))
    return sinks


def _result(trainer: TttTrainer, data: TrainingData, recipe: Recipe) -> dict[str, Any]:
    """The summary of a run, as `training.json` and the card have it."""
    state = trainer.state
    points = [point for point in state.log_history if "tokens" in point]
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    return {
        "method": recipe.method,
        "model": recipe.model,
        "data": recipe.data,
        "hours": round(data.hours, 3),
        "languages": data.languages,
        "examples": len(data.examples),
        "examples_left_out": data.left_out,
        "updates": state.global_step,
        "epochs": trainer.train_dataset.epoch_after(state.global_step),
        "tokens": int(sum(point["tokens"] for point in points)),
        "trained_parameters": trained,
        "best_metric": {recipe.metric_for_best_model: state.best_metric} if state.best_metric is not None else {},
        "best_update": state.best_global_step,
        "final_loss": points[-1]["loss"] if points else None,
        "processes": trainer.args.world_size,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} thread(s)",
    }
