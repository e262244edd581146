"""
Train on prepared data by a recipe: `ttt train` for several processes, as `accelerate launch` starts them.

    accelerate launch --config_file finetune/accelerate/ddp.yaml -m finetune.train RECIPE --set KEY=VALUE ...

Depends on `finetune.training`, whose heavy part is imported when the arguments are known to be right.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from finetune.training.recipe import read_recipe


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command line.

    Args:
        arguments (`Sequence[str]`, *optional*): Those of the process by default.

    Raises:
        SystemExit: After an error of the arguments, the recipe, the model or the data, which is one line on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="python -m finetune.train",
        description="Train on prepared data by a recipe, or go on where a run stopped.",
    )
    parser.add_argument("recipe", type=Path, help="a recipe (YAML), or a shipped one by name")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments", help="override a key; repeatable"
    )
    given = parser.parse_args(arguments)
    try:
        recipe = read_recipe(given.recipe, given.assignments)
        recipe.require("model", "data", "output_dir")
        from finetune.training.train import train

        train(recipe)
    except ModuleNotFoundError as error:
        raise SystemExit(f'Error: {error}. Training needs: pip install "text-to-talk[finetune]".') from error
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error


if __name__ == "__main__":
    main()
