"""
Publish what was trained: an adapter as it is, or merged into a whole model; to a folder, or to the Hub in one commit.

    ttt publish runs/italian you/ttt-italian --base-model you/ttt-nano --license cc-by-sa-3.0 \\
        --results measured/results.json
    ttt merge runs/italian merged/italian

Depends on folders, repositories and cards. Independent of training.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, create_branch, create_repo, upload_folder

from finetune.adapters.loading import ADAPTER_CONFIG, load_model, load_processor, split_model_name
from finetune.runs import RECIPE_FILE, RESULT_FILE, read_facts

from .cards import card_of_adapter, card_of_model

ADAPTER_FILES = (ADAPTER_CONFIG, "adapter_model.safetensors", RECIPE_FILE, RESULT_FILE)


def write_published(
    trained: str,
    out: Path,
    name: str | None = None,
    merge: bool = False,
    base_model: str | None = None,
    results: Path | None = None,
    label: str | None = None,
    datasets: Sequence[str] = (),
    language: Sequence[str] = (),
    license: str | None = None,
) -> None:
    """
    Write the folder that will be published.

    Args:
        trained (`str`): Folder of a run: an adapter or a whole model; also `BASE+ADAPTER`.
        out (`Path`): New or empty folder.
        name (`str`, *optional*): Hub id that the card names; the folder by default.
        merge (`bool`): Write an adapter into the weights of its base.
        base_model (`str`, *optional*): Hub id of the base, where the run started from a folder.
        results (`Path`, *optional*): `results.json` of `ttt evaluate`.
        label (`str`, *optional*): The model's name in these results.
        datasets (`Sequence[str]`): Hub ids of the data.
        language (`Sequence[str]`): Tags; those of the data by default.
        license (`str`, *optional*): Licence of the weights, by its name on the Hub.

    Raises:
        FileExistsError: If the folder holds something.
        ValueError: If an adapter's base is a folder of this machine, which others do not have; or there is no adapter
            to merge.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{str(out)!r} is not empty: choose a new folder.")
    base, adapter = split_model_name(trained)
    if merge and adapter is None:
        raise ValueError(
            f"{trained!r} is a whole model and no adapter, so there is nothing to merge: use it as it is. `ttt publish "
            "--to` writes it to a new folder."
        )
    if adapter is not None and not merge and base_model is None and Path(base).is_dir():
        raise ValueError(
            f"The adapter was trained from the folder {base!r}, which others do not have: give its Hub id by "
            "--base-model, or --merge."
        )
    facts = read_facts(Path(adapter or trained), results, label)
    name = name or str(out)
    metadata: dict[str, Any] = {
        "language": list(language) or facts.training.get("languages") or None,
        "license": license,
    }
    if adapter is not None and not merge:
        public_base = base_model or base
        out.mkdir(parents=True, exist_ok=True)
        for file in ADAPTER_FILES:
            if (Path(adapter) / file).is_file():
                shutil.copyfile(Path(adapter) / file, out / file)
        config = json.loads((out / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        config["base_model_name_or_path"] = public_base
        (out / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        card = card_of_adapter(name, facts, public_base, datasets, **metadata)
    else:
        model = load_model(trained)
        model.save_pretrained(out, max_shard_size="5GB")
        load_processor(trained).save_pretrained(out)
        named_base = base_model or (base if adapter is not None and not Path(base).is_dir() else None)
        card = card_of_model(name, model.config, facts, named_base, datasets, **metadata)
    card.save(out / "README.md")


def publish(
    trained: str,
    repo_id: str,
    merge: bool = False,
    base_model: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    **card: Any,
) -> CommitInfo:
    """
    Upload a run to the Hub, in one commit.

    Args:
        trained (`str`): As for `write_published`.
        repo_id (`str`): Repository, made if needed.
        merge (`bool`): Write an adapter into the weights of its base.
        base_model (`str`, *optional*): Hub id of the base.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str`, *optional*): As everywhere on the Hub.
        revision (`str`, *optional*): Branch, made if needed.
        card: `results`, `label`, `datasets`, `language`, `license`, as for `write_published`.

    Returns:
        `huggingface_hub.CommitInfo`: The commit.

    Raises:
        ValueError: If an adapter's base is a folder of this machine.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "published"
        write_published(trained, folder, repo_id, merge, base_model, **card)
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        if revision is not None:
            create_branch(repo_id, branch=revision, token=token, exist_ok=True)
        return upload_folder(
            repo_id=repo_id, folder_path=folder, token=token, revision=revision, commit_message="Upload by ttt publish"
        )
