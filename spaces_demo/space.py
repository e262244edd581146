"""
The Space: its folder, and what runs in it.

    python -m spaces_demo.space my-space        # then: hf upload USER/SPACE my-space --repo-type space

A Space installs its requirements before its own files are there, so our packages are copied beside `app.py` instead of
being installed: the folder holds everything, and needs no release on PyPI and no public repository. Depends on files
and the environment variables of a Space.
"""

import argparse
import importlib.util
import os
import shutil
from pathlib import Path

HERE = Path(__file__).parent
# Where proxies are. Addresses that a request names before these, the visitor may have made up.
PRIVATE_NETWORKS = "127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,::1,fc00::/7"
APP = """from spaces_demo.space import main

if __name__ == "__main__":
    main()
"""


def write_space(folder: Path) -> None:
    """
    Write the folder of a Space that runs the nano checkpoint.

    Args:
        folder (`Path`): Where to write; must not exist, or be empty.

    Raises:
        FileExistsError: If the folder is not empty.
    """
    from modeling_ttt import nano_checkpoint

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} holds files already: choose another folder, or empty it.")
    folder.mkdir(parents=True, exist_ok=True)
    no_builds = shutil.ignore_patterns("__pycache__", "checkpoints")
    for package in ("modeling_ttt", "processing_ttt", "spaces_demo"):
        shutil.copytree(HERE.parent / package, folder / package, ignore=no_builds)
    shutil.copytree(
        nano_checkpoint(),
        folder / "modeling_ttt" / "checkpoints" / "ttt-nano",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for name in ("README.md", "requirements.txt", "packages.txt"):
        (folder / "spaces_demo" / name).rename(folder / name)
    (folder / "app.py").write_text(APP, encoding="utf-8")


def main() -> None:
    """Run in a Space: the nano checkpoint or that of `TTT_MODEL`, on the hardware that the Space has."""
    borrows_gpu = importlib.util.find_spec("spaces") is not None
    if borrows_gpu:
        import spaces  # before torch touches a GPU

    from .app import load_service, serve
    from .http.listener import address_of_this_machine

    # Every request comes through the Space's proxies, which name the visitor. Without this variable, all visitors
    # would share one user's limit.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", PRIVATE_NETWORKS)
    service = load_service(os.environ.get("TTT_MODEL", ""), gpu=spaces.GPU if borrows_gpu else None)
    # A Space is public, so that a foreign page reaches nothing that its visitors could not reach themselves.
    serve([service], **address_of_this_machine(), allowed_hosts=["*"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write the Space")
    write_space(parser.parse_args().folder)
