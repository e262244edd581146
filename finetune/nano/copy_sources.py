"""
Bring the source files that a published checkpoint carries up to date with the packages, without touching its weights.

    python -m finetune.nano.copy_sources checkpoints/ttt-nano

A folder that is to load with `trust_remote_code=True` holds a copy of every file that its classes reach. `save_pretrained` writes them; after a
change of the packages this command does.
"""

import argparse
from pathlib import Path

from transformers.dynamic_module_utils import custom_object_save

from modeling_ttt import TttForConditionalGeneration
from processing_ttt import TttCodecModel, TttProcessor


def copy_sources(folder: Path) -> None:
    """Replace the `.py` files of a checkpoint and of its codec."""
    for target, classes in (
        (folder, (TttForConditionalGeneration, TttProcessor)),
        (folder / "codec", (TttCodecModel,)),
    ):
        for stale in target.glob("*.py"):
            stale.unlink()
        for published in classes:
            custom_object_save(published, target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    copy_sources(parser.parse_args().folder)
