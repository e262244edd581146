"""`python -m spaces_demo` is `ttt demo`."""

import typer

from .commands import demo

if __name__ == "__main__":
    typer.run(demo)
