"""Where the checkout is that the tests belong to, and how another process imports its packages."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def own_packages() -> dict[str, str]:
    """The environment of a process that imports the packages of this checkout, from whatever folder it runs in."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
