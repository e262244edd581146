"""
The manifest of an export: of which model it is, and the SHA-256 of every file that has to belong to it.

    {"model": {"vocab_size": ..., ...},               token ids, which those of config.json must equal
     "sha256": {"model.onnx": ..., ...},              graphs beside the manifest
     "codec": {"sha256": {...}, ...},                 graphs of the codec, if it was exported
     "files": {"tokenizer.json": ..., ...}, ...}      processor and codec, in the checkpoint's folder

A codec or tokenizer of another checkpoint of equal sizes would give noise and other words without an error. Depends on
files and a configuration. Independent of runtimes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from .configuration_ttt import TttConfig

MANIFEST_FILE = "manifest.json"
WAY_OUT = "export again with `ttt export`."


def read_manifest(path: Path, config: TttConfig) -> dict[str, Any]:
    """
    Read a manifest, and refuse that of another model.

    Args:
        path (`Path`): The file.
        config ([`TttConfig`]): Of the checkpoint around it.

    Returns:
        `dict`: The manifest.

    Raises:
        ValueError: It is damaged, names files outside of the checkpoint's folder, or is of a model with other token
            ids.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        model = dict(manifest["model"])
        names = [PurePath(name) for name in manifest_digests(manifest, path.parent.name)]
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise ValueError("a file outside of the checkpoint's folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not the manifest of an export: {WAY_OUT}") from error
    for name, value in model.items():
        if value != (own := getattr(config, name, None)):
            raise ValueError(f"The export is of a model with {name} {value}, config.json has {own}: {WAY_OUT}")
    return manifest


def manifest_digests(manifest: dict[str, Any], folder: str) -> dict[str, str]:
    """
    List the files that a manifest names.

    Args:
        manifest (`dict`): The manifest.
        folder (`str`): Name of its folder in the checkpoint's.

    Returns:
        `dict[str, str]`: The SHA-256 of each file by its path in the checkpoint's folder.
    """
    graphs = dict(manifest["sha256"]) | dict(manifest.get("codec", {}).get("sha256", {}))
    return {f"{folder}/{name}": digest for name, digest in graphs.items()} | dict(manifest.get("files", {}))


def check_files(folder: Path, digests: Mapping[str, str | None]) -> None:
    """
    Refuse files that an export did not write.

    Args:
        folder (`Path`): The checkpoint's.
        digests (`Mapping[str, str]`): The SHA-256 of each file, by its path there; `None` for one that
            the manifest does not name.

    Raises:
        ValueError: A file is missing, damaged, or of another export.
    """
    for name, digest in digests.items():
        path = folder / name
        if not path.is_file() or file_sha256(path) != digest:
            raise ValueError(
                f"{name} is not the file that the export's manifest names, it is damaged or of another export: "
                f"{WAY_OUT}"
            )


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


__all__ = ["MANIFEST_FILE", "check_files", "file_sha256", "manifest_digests", "read_manifest"]
