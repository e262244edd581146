"""
The commands of training and what comes after: `ttt train`, `ttt evaluate`, `ttt publish`, `ttt merge`.

Depends on options, folders and messages. The work is done by `finetune`, which is imported when a command runs.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .checks import (
    check_device,
    check_hub,
    check_installed,
    check_model,
    check_new_folder,
    check_repository,
    looks_like_path,
)
from .options import interruptible, show_progress, status

if TYPE_CHECKING:
    from finetune.training.recipe import Recipe

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe; may be repeated.", show_default=False
    ),
]


def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="A recipe (YAML), or a shipped one by name: low_resource_lora, nano_lora_cpu, voice_lora, "
            "full_sft, from_llm, nano."
        ),
    ] = None,
    assignments: Set = None,
) -> None:
    """Train on prepared data, or go on where a run stopped. Several GPUs: accelerate launch -m finetune.train."""
    from finetune.training.recipe import read_recipe

    read = read_recipe(recipe, assignments or [])
    read.require("model", "data", "output_dir")
    check_model(read.model)
    if not Path(read.data).exists():
        raise FileNotFoundError(f"There is no prepared folder and no data file {read.data!r}.")
    check_hub(read.model.split("+"))
    check_installed("datasets")
    with interruptible(lambda: _way_on(read)):
        status("Loading PyTorch ...")
        from finetune.training.train import train as run

        try:
            folder = run(read)
        except Exception:
            typer.echo(err=True)  # ends the line of the progress bar
            raise
    typer.echo(f"Trained: {folder}. Next: ttt evaluate {folder} --data ..., ttt publish {folder} ...")


def _way_on(recipe: "Recipe") -> str:
    """What the same command does after an interruption: it goes on from a complete checkpoint, if there is one."""
    from finetune.runs import RESULT_FILE, newest_checkpoint

    folders = [Path(stage.output_dir) for _, stage in recipe.stage_recipes()]
    folder = next((folder for folder in folders if not (folder / RESULT_FILE).is_file()), folders[-1])
    checkpoint = newest_checkpoint(folder)
    if checkpoint is not None:
        return f"The same command goes on from {checkpoint}."
    return (
        f"The same command begins {folder} again, which has no checkpoint yet: the key `eval_steps` says after how "
        "many updates one is written."
    )


def evaluate(
    models: Annotated[
        list[str], typer.Argument(help="Checkpoints, adapters, BASE+ADAPTER; label=NAME names one in the table.")
    ],
    data: Annotated[
        list[str], typer.Option(help="Prepared folder, folder:split, or a set by name (librispeech-clean, ...).")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("evaluation"),
    task: Annotated[
        list[str] | None, typer.Option(help="asr, tts, qa; all that the data has records for.", show_default=False)
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="Of speech: model, pocketsphinx, whisper-base, or an ASR model (Hub id).", show_default=False
        ),
    ] = None,
    answer_judge: Annotated[str, typer.Option(help="Of answers: exact, contains, or a chat model's Hub id.")] = "exact",
    limit: Annotated[int | None, typer.Option(min=1, help="Records of each set.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Questions answered together.")] = 16,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ...; a GPU if there is one.", show_default=False)
    ] = None,
    dtype: Annotated[str, typer.Option(help="Number format of the weights.")] = "auto",
    default_language: Annotated[
        str | None,
        typer.Option(
            help="Prompts in this language carry no tag; by default that of the run's recipe, or en.",
            show_default=False,
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest reply.", show_default=False)] = None,
    denoising_steps: Annotated[
        int | None, typer.Option(min=1, help="Denoising steps per block.", show_default=False)
    ] = None,
) -> None:
    """Measure models on test sets: word and character errors, speech, answers, speed."""
    check_device(device)
    for name in models:
        check_model(name.partition("=")[2] or name)
    for name in data:
        folder = name.rpartition(":")[0]
        if looks_like_path(name) and not (Path(name).is_dir() or (folder and Path(folder).is_dir())):
            raise FileNotFoundError(f"There is no prepared folder {name!r}.")
    check_hub(part for name in models for part in (name.partition("=")[2] or name).split("+"))
    check_installed("datasets", "jiwer")
    with interruptible(lambda: _measured(out / "results.json")):
        status("Loading PyTorch ...")
        from finetune.evaluation.evaluate import TASKS, EvaluationOptions
        from finetune.evaluation.evaluate import evaluate as run
        from finetune.evaluation.results_table import markdown

        generation = {"max_new_tokens": max_new_tokens, "denoising_steps": denoising_steps}
        options = EvaluationOptions(
            tasks=tuple(task or TASKS),
            judges=tuple(judge or ("model",)),
            answer_judge=answer_judge,
            limit=limit,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            default_language=default_language,
            generation={name: value for name, value in generation.items() if value is not None},
        )
        typer.echo(markdown(run(models, data, out, options)))
    typer.echo(f"Written to {out}: results.md, results.json, plots and audio.")


def _measured(results: Path) -> str:
    kept = f"What was measured so far is in {results}" if results.is_file() else "Nothing was measured yet"
    return f"{kept}; the same command begins again."


Trained = Annotated[str, typer.Argument(help="Folder of a run: an adapter or a whole model; also BASE+ADAPTER.")]
BaseModel = Annotated[
    str | None, typer.Option(help="Hub id of the adapter's base, if it was a folder.", show_default=False)
]
Results = Annotated[Path | None, typer.Option(help="results.json of `ttt evaluate`, for the card.", show_default=False)]
Label = Annotated[str | None, typer.Option(help="The model's name in these results.", show_default=False)]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Hub id of the data, for the card.", show_default=False)
]
License = Annotated[str | None, typer.Option(help="Licence of the weights (cc-by-sa-3.0).", show_default=False)]


@interruptible("The same command uploads again; files that the Hub has already are not sent twice.")
def publish(
    trained: Trained,
    repository: Annotated[
        str | None, typer.Argument(help="Hub repository (owner/name), made if needed; --to needs none.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="A whole model instead of an adapter.")] = False,
    base_model: BaseModel = None,
    results: Results = None,
    label: Label = None,
    dataset: Datasets = None,
    license: License = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch.", show_default=False)] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Write what would be uploaded to this new folder, and upload nothing.", show_default=False),
    ] = None,
) -> None:
    """Upload what was trained to the Hub, with a card of data, training and measurements."""
    if repository is not None:
        check_repository(repository)
    elif to is None:
        raise ValueError(f"Say where to: ttt publish {trained} OWNER/NAME uploads, --to FOLDER only writes a folder.")
    check_model(trained)
    if to is not None:
        check_new_folder(to)
    check_hub(trained.split("+"))
    status("Loading PyTorch ...")
    show_progress()
    from finetune.publishing.publish import publish as run
    from finetune.publishing.publish import write_published

    if to is not None:
        write_published(
            trained,
            to,
            repository,
            merge,
            base_model,
            results=results,
            label=label,
            datasets=dataset or (),
            license=license,
        )
        typer.echo(f"Written: {to}. Nothing was uploaded.")
        return
    assert repository is not None  # checked above
    commit = run(
        trained,
        repository,
        merge,
        base_model,
        private=private or None,
        revision=revision,
        results=results,
        label=label,
        datasets=dataset or (),
        license=license,
    )
    typer.echo(f"Published: {commit.commit_url}")


@interruptible("Delete what was written of the new folder; then the same command begins again.")
def merge(
    trained: Trained,
    out: Annotated[Path, typer.Argument(help="New or empty folder.")],
    results: Results = None,
    label: Label = None,
    license: License = None,
) -> None:
    """Write an adapter into the weights of its base: a folder that needs no PEFT."""
    check_model(trained)
    check_new_folder(out)
    check_hub(trained.split("+"))
    status("Loading PyTorch ...")
    show_progress()
    from finetune.publishing.publish import write_published

    write_published(trained, out, merge=True, results=results, label=label, license=license)
    typer.echo(f"Written: {out}. Try it: ttt talk --model {out}")
