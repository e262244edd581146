"""
Upload processors and codecs to the Hub, with a card.

Independent of token ids and waveforms.
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    ModelCard,
    ModelCardData,
    create_branch,
    create_commit,
    create_repo,
    file_exists,
)

from .codec_interface_ttt import CodecConfig

TAG = "text-to-talk"

_CODEC_BODY = """# {title}

A speech codec with one codebook for Text-to-Talk models: {sampling_rate} Hz in, {output_sampling_rate} Hz out, \
{frame_rate:g} codes per second out of {codebook_size}.{about}

## Use

```python
from transformers import AutoModel

codec = AutoModel.from_pretrained("{name}", trust_remote_code=True)
codes = codec.encode(waveform[None, None]).audio_codes  # waveform: float32 (samples,) at {sampling_rate} Hz; \
codes: (1, 1, frames)
audio = codec.decode(codes).audio_values  # (1, 1, samples) at {output_sampling_rate} Hz
```

## Measured

{measured}
"""

_PROCESSOR_BODY = """# {title}

The processor of a Text-to-Talk model: tokenizer with markers and audio alphabet, layout and codec.
"""


class SavesToFolder(Protocol):
    """What can be uploaded."""

    def save_pretrained(self, folder: str, /) -> object:
        """Write everything to a folder."""


def codec_card(
    name: str,
    config: CodecConfig,
    language: str | Sequence[str] | None = None,
    license: str | None = None,
    base_model: str | Sequence[str] | None = None,
    measured: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    about: str = "",
    **metadata: Any,
) -> ModelCard:
    """
    Write the card of a codec.

    Args:
        name (`str`): Hub id or folder, as `from_pretrained` takes it.
        config ([`CodecConfig`]): The codec's configuration.
        language (`str` or sequence of `str`, *optional*): Language codes of its training data.
        license (`str`, *optional*): Licence of the weights, by its name on the Hub.
        base_model (`str` or sequence of `str`, *optional*): Hub ids of the models that it was made from.
        measured (`Mapping[str, Any]`, *optional*): What was measured, and the number: the rows of the card's table.
        tags (sequence of `str`, *optional*): In addition to `text-to-talk` and `speech-codec`.
        about (`str`, *optional*): More text, in Markdown.
        metadata: Further fields of `huggingface_hub.ModelCardData`.

    Returns:
        `huggingface_hub.ModelCard`: The card.
    """
    data = ModelCardData(
        language=list(language) if language is not None and not isinstance(language, str) else language,
        license=license,
        base_model=list(base_model) if base_model is not None and not isinstance(base_model, str) else base_model,
        library_name="transformers",
        tags=list(dict.fromkeys([TAG, "speech-codec", *tags])),
        **metadata,
    )
    rows = [f"| {what} | {number} |" for what, number in (measured or {}).items()]
    body = _CODEC_BODY.format(
        title=os.path.basename(os.path.normpath(name)),
        name=name,
        sampling_rate=config.sampling_rate,
        output_sampling_rate=config.output_sampling_rate,
        frame_rate=config.frame_rate,
        codebook_size=config.codebook_size,
        about=f"\n\n{about}" if about else "",
        measured="\n".join(["| what | measured |", "|---|---|", *rows]) if rows else "Nothing yet.",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}")


def processor_card(name: str) -> ModelCard:
    """Write the card of a repository that has a processor and no model yet; the model's card replaces it."""
    data = ModelCardData(library_name="transformers")
    title = os.path.basename(os.path.normpath(name))
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_PROCESSOR_BODY.format(title=title)}")


def push_with_card(
    saved: SavesToFolder,
    repo_id: str,
    card: ModelCard | None,
    plain_card: ModelCard,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    **commit: Any,
) -> CommitInfo:
    """
    Upload what `save_pretrained` writes, folders in folders included, and a card, in one commit.

    Args:
        saved ([`SavesToFolder`]): A model, processor or codec.
        repo_id (`str`): Repository, made if needed.
        card (`huggingface_hub.ModelCard`, *optional*): Card to write; with `None` the repository keeps its own.
        plain_card (`huggingface_hub.ModelCard`): Card for a repository that has none.
        private (`bool`, *optional*): Whether a new repository is private.
        token (`str` or `bool`, *optional*): Access token of the Hub.
        revision (`str`, *optional*): Branch to commit to, made if needed.
        commit: `commit_message`, `commit_description`, `create_pr`.

    Returns:
        `huggingface_hub.CommitInfo`: The commit.
    """
    repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
    if revision is not None and not revision.startswith("refs/pr"):
        create_branch(repo_id, branch=revision, token=token, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        saved.save_pretrained(folder)
        if card is None and not file_exists(repo_id, "README.md", revision=revision, token=token):
            card = plain_card
        if card is not None:
            card.save(os.path.join(folder, "README.md"))
        files = [path for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
        return create_commit(repo_id, additions, token=token, revision=revision, **commit)


__all__ = ["codec_card", "processor_card", "push_with_card"]
