"""
Where transformers' common test suites come from: its source distribution, fetched when a test asks for it and never
kept in the checkout.

Depends on pip and the layout of the archive. Independent of our classes and of what the suites test.
"""

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path

SUITES_PACKAGE = "transformers_suites"

# What the suites import from beside them and the archive lacks: the smallest that lets them be imported. The
# generation and export suites are not in the archive, so nothing runs in their place.
MISSING_MODULES = {
    f"{SUITES_PACKAGE}/__init__.py": "",
    f"{SUITES_PACKAGE}/exporters/__init__.py": "",
    f"{SUITES_PACKAGE}/exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    f"{SUITES_PACKAGE}/generation/__init__.py": "",
    f"{SUITES_PACKAGE}/generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    f"{SUITES_PACKAGE}/utils/__init__.py": "",
    f"{SUITES_PACKAGE}/utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
    # The suites' audio is on the Hub: a tone of one second replaces each file.
    "utils/fetch_hub_objects_for_ci.py": (
        "from pathlib import Path\n\n\n"
        "def url_to_local_path(url):\n"
        '    return str(Path(__file__).with_name("tone.wav"))\n'
    ),
}


def download_source_distribution(version: str, folder: Path) -> Path:
    """
    Fetch the source distribution of a version of transformers, unless the folder holds it.

    pip has no way to download without asking the archive for its metadata, which needs setuptools: where that is
    installed, fetching it once more for an isolated build is spared. Nothing is built.

    Args:
        version (`str`): Of transformers.
        folder (`Path`): Where the archive goes.

    Returns:
        `Path`: The archive.

    Raises:
        ConnectionError: If pip did not get it; the message has the end of what pip printed.
    """
    archive = folder / f"transformers-{version}.tar.gz"
    if archive.is_file():
        return archive
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    if importlib.util.find_spec("setuptools") is not None:
        command.append("--no-build-isolation")
    command += ["--dest", str(folder), f"transformers=={version}"]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0 or not archive.is_file():
        said = " ".join((finished.stderr or finished.stdout).split())
        raise ConnectionError(
            f"pip could not download the source distribution of transformers {version}: ... {said[-300:]}"
        )
    return archive


def unpack_suites(archive: Path, folder: Path) -> None:
    """
    Unpack the test suites of an archive and put the modules that they miss beside them.

    Args:
        archive (`Path`): The source distribution.
        folder (`Path`): Put it on the import path: the suites are the package `transformers_suites` in it.
    """
    for name, source in MISSING_MODULES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    with tarfile.open(archive) as members:
        for member in members:
            path = Path(member.name)
            if member.isfile() and path.suffix == ".py" and path.parts[1:-1] == ("tests",):
                (folder / SUITES_PACKAGE / path.name).write_bytes(members.extractfile(member).read())
