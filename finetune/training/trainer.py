"""
transformers' Trainer with four differences: losses are means over samples, packed rows come in the order of their
plan, a validation also generates replies, and a run whose loss or weights are no numbers ends with an error.

Depends on batches as `collate.py` makes them and on the outputs of the model. Independent of recipes and data files.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback

GenerationCheck = Callable[[Any, int], dict[str, float]]  # model, number of updates -> metrics


class DivergedError(RuntimeError):
    """A run whose loss or weights became NaN or infinite."""


class TttTrainer(Trainer):
    """
    Trains a Text-to-Talk model.

    The loss of an update is the mean over its samples, exactly: each batch counts by its number of samples, whatever
    the number of accumulated batches and processes, and however many samples were packed into a row.

    Args:
        check_generation (`Callable`, *optional*): Called at each evaluation with the model and the number of updates;
            its numbers join the metrics.
        is_compiled (`bool`, *optional*, defaults to `False`): Whether layers are compiled; evaluations then run them
            as they are, since their batches have all lengths.
        kwargs: As for `transformers.Trainer`.
    """

    def __init__(
        self, *args: Any, check_generation: GenerationCheck | None = None, is_compiled: bool = False, **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        # Tells the Trainer that `compute_loss` has divided by the samples of all accumulated batches, so that it does
        # not divide again.
        self.model_accepts_loss_kwargs = True
        self.check_generation = check_generation
        self.is_compiled = is_compiled
        self._since_log: torch.Tensor | None = None

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Weight the batch's mean by its share of the update's samples. Logits are computed only on request."""
        outputs = model(**inputs, use_cache=False, skip_logits=self.args.prediction_loss_only or not return_outputs)
        samples = count_samples(inputs)
        if model.training:
            self._remember(outputs, inputs, samples)
        loss = outputs["loss"]
        if num_items_in_batch is not None:  # counted over all processes, whose gradients are averaged afterwards
            loss = loss * (samples * self.accelerator.num_processes / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list[dict[str, torch.Tensor]], device: torch.device) -> Any:
        """Count samples where transformers counts tokens."""
        if not batch_samples:
            return None
        count = torch.tensor(sum(count_samples(batch) for batch in batch_samples), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler:
        """Packed rows come in the order of their plan."""
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _remember(self, outputs: Any, inputs: dict[str, torch.Tensor], samples: int) -> None:
        """Add up both parts of the loss, and the tokens that are no padding and no copies, until the next point."""
        real = inputs["sample_ids"] >= 0 if "sample_ids" in inputs else inputs["attention_mask"]
        if "copy_ids" in inputs:
            real = real & (inputs["copy_ids"] == 0)
        sums = (
            torch.stack([outputs["text_loss"], outputs["audio_loss"], torch.ones_like(outputs["text_loss"])]) * samples
        )
        sums = torch.cat([sums.detach().double(), real.sum()[None].double()])
        self._since_log = sums if self._since_log is None else self._since_log + sums

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add both parts of the loss, and the position in the data."""
        if "loss" in logs and self._since_log is not None:
            text, audio, samples, tokens = self.accelerator.reduce(self._since_log, "sum").tolist()
            if not (math.isfinite(text) and math.isfinite(audio)):
                raise self._diverged("its loss is NaN or infinite")
            logs |= {"text_loss": text / samples, "audio_loss": audio / samples, "tokens": tokens}
            self._since_log = None
        if self.state.epoch is not None and hasattr(self.train_dataset, "epoch_after"):
            self.state.epoch = self.train_dataset.epoch_after(self.state.global_step)
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save what was trained, also as part of a checkpoint, unless some of it is NaN or infinite."""
        trained = ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        for name, parameter in trained:
            local = parameter.to_local() if hasattr(parameter, "to_local") else parameter  # of a sharded one
            if local.numel() and not torch.isfinite(torch.stack(torch.aminmax(local.detach()))).all():
                raise self._diverged(f"{name} has NaN or infinite values")
        super().save_model(output_dir, _internal_call)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save a checkpoint, or describe why it could not be written."""
        try:
            super()._save_checkpoint(model, trial)
        except DivergedError:
            raise
        except (OSError, RuntimeError, SafetensorError) as error:  # the last two from writers of tensors
            raise OSError(
                f"The checkpoint of update {self.state.global_step} could not be written to {self.args.output_dir!r} "
                f"({str(error).strip().splitlines()[0]}): the disk may be full. Make room, and the same command goes "
                "on from the last whole checkpoint."
            ) from error

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(
            f"Training diverged: at update {self.state.global_step} {what}. Nothing was saved of it; earlier "
            f"checkpoints in {self.args.output_dir!r} are kept. Train in another output_dir with a lower learning_rate "
            "or a longer warmup_ratio, and look for damaged records in the data."
        )

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the loss, then the model's replies."""
        with torch.compiler.set_stance("force_eager" if self.is_compiled else "default"):
            return self._evaluate_loss_and_replies(*args, **kwargs)

    def _evaluate_loss_and_replies(self, *args: Any, **kwargs: Any) -> Any:
        output = super().evaluation_loop(*args, **kwargs)
        if self.check_generation is not None:
            # Outside of autocast, which would convert every weight again at each of many small steps.
            model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False).eval()
            metrics = self.check_generation(model, self.state.global_step)
            prefix = kwargs.get("metric_key_prefix", "eval")
            output.metrics.update({f"{prefix}_{name}": value for name, value in metrics.items()})
        return output


class FlushLogs(TrainerCallback):
    """
    Logs where a checkpoint is written and where training ends: otherwise the tokens since the last log would not be
    counted. What was logged is at once in a file that is read while training runs.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after the Trainer's own callback has decided."""
        if control.should_save or control.should_training_stop:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after the Trainer's own callback has printed."""
        sys.stdout.flush()


def count_samples(batch: dict[str, torch.Tensor]) -> int:
    """Count the samples of a batch: its rows, or the examples packed into them."""
    if "sample_ids" not in batch:
        return len(batch["input_ids"])
    return int((batch["sample_ids"].amax(-1) + 1).sum())
