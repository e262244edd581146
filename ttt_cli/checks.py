"""
Checks of arguments before anything heavy is imported: files, folders, names, devices.

Depends on the file system. Independent of PyTorch and of all packages.
"""

import os
import re
import socket
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

AUDIO_FILES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".webm", ".aiff")
MANIFESTS = (".jsonl", ".json", ".parquet", ".csv", ".tsv")
TEXT_FILES = (".txt", ".md")
WRITTEN_FORMATS = (".wav", ".flac", ".ogg", ".mp3")
DEVICE = re.compile(r"auto|mps|(cpu|cuda|xpu|npu|hpu|mps)(:\d+)?")


def looks_like_path(name: str) -> bool:
    """Ask whether a name can only be a path, because no Hub id looks like it."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1


def check_model(name: str) -> None:
    """Refuse a checkpoint or adapter, or one of `BASE+ADAPTER`, that is neither a folder nor a Hub id."""
    for part in name.split("+"):
        if looks_like_path(part) and not Path(part).is_dir():
            raise FileNotFoundError(f"There is no folder {part!r}, and it is no Hub id (owner/name) either.")


def check_hub(names: Iterable[str], kind: str = "models") -> None:
    """
    Refuse names on the Hub whose files are not on this machine and cannot be downloaded, because the Hub is out of
    reach: its library would try for half a minute. Where all are here, nothing asks the Hub.
    """
    wanted = [name for name in names if name and not Path(name).expanduser().exists()]
    if not wanted or _reaches_hub():
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from huggingface_hub.constants import HF_HUB_CACHE

    for name in wanted:
        if not Path(HF_HUB_CACHE, f"{kind}--{name.replace('/', '--')}").is_dir():
            raise FileNotFoundError(
                f"There is no folder {name!r}, no download of it from the Hub on this machine, and the Hub cannot be "
                "reached: check the name, or the network (and HF_HUB_OFFLINE)."
            )


def _reaches_hub() -> bool:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    hub = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if hub.scheme in getproxies():  # which the library uses, and this check would not
        return True
    try:
        socket.create_connection((hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)), 5).close()
    except OSError:
        return False
    return True


def check_installed(*modules: str) -> None:
    """Refuse to begin where a module of an extra is missing; `extras.way_out` names the extra."""
    for module in modules:
        if find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)


def check_language(language: str | None, known: Iterable[str], whose: str) -> None:
    """Refuse the tag of a language other than those that are known, if any are."""
    known = sorted(set(known))
    if language is not None and known and language not in known:
        raise ValueError(f"--language {language}: {whose} knows {', '.join(known)}; --adapter names another adapter.")


def check_device(device: str | None) -> None:
    """Refuse a device that PyTorch has no name for."""
    if device is not None and not DEVICE.fullmatch(device):
        raise ValueError(f"There is no device {device!r}: use auto, cpu, cuda, cuda:1 or mps.")


def as_question(given: str) -> Path | str:
    """
    Distinguish a spoken question (the name of a file) from a written one.

    Args:
        given (`str`): What a user typed.

    Returns:
        `Path` or `str`.

    Raises:
        FileNotFoundError: If it is a path, or the name of an audio or text file, and that is not there.
        IsADirectoryError: If it is the path of a folder.
        ValueError: If it is a text file.
    """
    if given.lower().endswith(TEXT_FILES) and not any(map(str.isspace, given)):
        check_readable([Path(given)])
        raise ValueError(f"{given!r} is a text file: ttt speak reads it aloud, and ttt talk - < {given} asks it.")
    is_path = given.startswith(("./", "../", "/", "~/")) and not any(map(str.isspace, given))
    is_path = is_path or ("/" in given and os.path.isdir(given))
    if not is_path and not given.lower().endswith(AUDIO_FILES) and not os.path.isfile(given):
        return given  # `Path.is_file` refuses long texts
    check_readable([Path(given)])
    return Path(given)


def check_readable(files: Iterable[Path]) -> None:
    """Refuse files that are not there."""
    for file in files:
        if file.is_dir():
            raise IsADirectoryError(f"{str(file)!r} is a folder: name the files in it.")
        if not (file.is_file() or file.is_fifo()):
            raise FileNotFoundError(f"There is no file {str(file)!r}.")


def check_written(out: Path, read: Iterable[Path] = ()) -> None:
    """Refuse an audio file that could not be written, or would overwrite one that is read."""
    for file in read:
        if out.exists() and file.exists() and out.samefile(file):
            raise ValueError(f"{str(out)!r} is the recording itself, and would be overwritten: choose another --out.")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(out)!r} does not exist; create it, or choose another --out.")
    if out.is_dir():
        raise IsADirectoryError(f"{str(out)!r} is a folder; give --out the name of a file in it.")
    if out.suffix.lower() not in WRITTEN_FORMATS:
        raise ValueError(f"{str(out)!r} has no known audio extension: use {', '.join(WRITTEN_FORMATS)}.")


def check_new_folder(out: Path) -> None:
    """Refuse a folder that holds something."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{str(out)!r} is not empty: choose a new folder.")


def check_repository(name: str) -> None:
    """Refuse a name that the Hub does not take."""
    if not re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name):
        raise ValueError(f"{name!r} is no repository of the Hub (owner/name): `--to FOLDER` writes to a folder.")
