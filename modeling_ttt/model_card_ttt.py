"""
The model card of a published Text-to-Talk model, and its upload to the Hub.

A card has tags, language, licence, base model, measured numbers and a usage example. Independent of weights.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    ModelCard,
    ModelCardData,
    create_branch,
    create_commit,
    create_repo,
    hf_hub_download,
)
from huggingface_hub.errors import EntryNotFoundError

from .configuration_ttt import TttConfig

TAG = "text-to-talk"

_BODY = """# {title}

A Text-to-Talk model: one Transformer ({backbone}) that generates text token by token and audio by denoising blocks \
of audio tokens
(codec with one codebook of {codebook_size} codes).{about}

## Use

{use}

## Measured

{measured}
"""

_USE = {
    "torch": """```python
from transformers import AutoModel, AutoProcessor

model = AutoModel.from_pretrained("{name}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{name}", trust_remote_code=True)
inputs = processor.prepare(processor.messages("chat", audio="question.wav"))
ids = model.generate(**inputs)
reply = processor.decode_reply(ids[0, inputs["input_ids"].shape[1] :])
print(reply.text)
reply.save("reply.wav")
```

With the package `text-to-talk` installed, `import modeling_ttt, processing_ttt` replaces `trust_remote_code=True`.""",
    "onnx": """An export for ONNX Runtime, on a CPU: `pip install "text-to-talk[edge]"`.

```python
from text_to_talk import TttTalker

reply = TttTalker.from_pretrained("{name}", engine="onnx").reply(audio="question.wav")
print(reply.text)
reply.save("reply.wav")
```""",
}


def model_card(
    name: str,
    config: TttConfig,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    base_model: str | None = None,
    datasets: Sequence[str] | None = None,
    measured: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    about: str = "",
    engine: str = "torch",
    **metadata: Any,
) -> ModelCard:
    """
    Write a model card.

    Args:
        name (`str`): Hub id or folder, as `from_pretrained` takes it.
        config ([`TttConfig`]): The model's configuration.
        language (`str` or sequence of `str`, *optional*): Language codes: `"en"`.
        license (`str`, *optional*): Licence of the weights, by its name on the Hub: `"apache-2.0"`.
        base_model (`str`, *optional*): Hub id of the model that it was made from.
        datasets (sequence of `str`, *optional*): Hub ids of its training data.
        measured (`Mapping[str, Any]`, *optional*): Name and value of each measurement, for the card's
            table.
        tags (sequence of `str`, *optional*): Besides `text-to-talk`.
        about (`str`, *optional*): Further text, in Markdown.
        engine (`str`, *optional*, defaults to `"torch"`): What the repository's files are for: `"torch"`, or `"onnx"`
            for an export.
        metadata: Further fields of `huggingface_hub.ModelCardData` (`license_link`, `eval_results`, ...).

    Returns:
        `huggingface_hub.ModelCard`: The card.
    """
    data = ModelCardData(
        language=list(language) if language is not None and not isinstance(language, str) else language,
        license=license,
        base_model=base_model,
        datasets=list(datasets) if datasets else None,
        library_name="transformers",
        pipeline_tag="any-to-any",
        tags=list(dict.fromkeys([TAG, *tags])),
        **metadata,
    )
    backbone = config.text_config
    rows = [f"| {what} | {number} |" for what, number in (measured or {}).items()]
    body = _BODY.format(
        title=os.path.basename(os.path.normpath(name)),
        use=_USE[engine].format(name=name),
        backbone=f"{backbone.model_type}, {backbone.num_hidden_layers} layers, hidden size {backbone.hidden_size}",
        codebook_size=config.audio_codebook_size,
        about=f"\n\n{about}" if about else "",
        measured="\n".join(["| what | measured |", "|---|---|", *rows]) if rows else "Nothing yet.",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def push_with_card(
    model: Any,
    repo_id: str,
    card: ModelCard | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    max_shard_size: int | str = "5GB",
    **commit: Any,
) -> CommitInfo:
    """
    Upload a model with its sources and a card, in one commit.

    Args:
        model ([`TttPreTrainedModel`]): The model.
        repo_id (`str`): Repository, made if needed.
        card (`huggingface_hub.ModelCard`, *optional*): By default the repository's own stays if it is tagged
            `text-to-talk`, else a plain one is written.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str` or `bool`, *optional*): Token of the Hub.
        revision (`str`, *optional*): Branch to commit to, made if needed.
        max_shard_size (`int` or `str`, *optional*, defaults to `"5GB"`): Largest file of weights.
        commit: `commit_message`, `commit_description`, `create_pr`.

    Returns:
        `huggingface_hub.CommitInfo`: The commit.
    """
    repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/pr"):
        create_branch(repo_id, branch=revision, token=token, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        card = (
            card or _card_in_place(repo_id, revision, token) or model_card(repo_id, model.config, engine=model.engine)
        )
        card.save(os.path.join(folder, "README.md"))
        commit["commit_message"] = commit.get("commit_message") or "Upload model"
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
        return create_commit(repo_id, additions, token=token, revision=revision, **commit)


def _card_in_place(repo_id: str, revision: str | None, token: str | bool | None) -> ModelCard | None:
    """The repository's card, unless it has none or only the one that transformers generates."""
    try:
        card = ModelCard.load(hf_hub_download(repo_id, "README.md", revision=revision, token=token))
    except EntryNotFoundError:
        return None
    return card if TAG in (card.data.tags or ()) else None


__all__ = ["TAG", "model_card", "push_with_card"]
