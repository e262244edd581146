"""
What building changes: `finetune` is installed as `ttt_finetune`, because another package on PyPI has its name, and the
description on PyPI has no pictures or links that lead into the repository.

Editable installations run from the checkout, where the folder keeps its name. Depends on hatchling only.
"""

import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

FINETUNE = re.compile(r"(?<![\w./-])finetune(?=\.\w| import\b)")  # the package, not a path or an extra of that name
PICTURE = re.compile(r"<img src=\"(?!https?:)[^>]*>\n*")
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)]*\)")


class InstallFinetuneByAnotherName(BuildHookInterface):
    """Rewrite the imports of `finetune` in the wheel, whose folder `sources` in pyproject.toml renames."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Replace each module of the wheel that names the package by a copy with the other name."""
        if version == "editable":
            return
        self.folder = tempfile.TemporaryDirectory()
        for package in ("finetune", "spaces_demo", "ttt_cli"):
            for path in Path(self.root, package).rglob("*.py"):
                written, changes = FINETUNE.subn("ttt_finetune", path.read_text(encoding="utf-8"))
                if changes:
                    place = self.build_config.get_distribution_path(str(path.relative_to(self.root)))
                    copy = Path(self.folder.name, place)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_text(written, encoding="utf-8")
                    build_data["force_include"][str(copy)] = place

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copies."""
        if version != "editable":
            self.folder.cleanup()


class DescribeWithoutTheRepository(MetadataHookInterface):
    """Take the README as the description, less what only a repository shows."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`, which pyproject.toml calls dynamic."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        text = LINK.sub(r"\1", PICTURE.sub("", text))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
