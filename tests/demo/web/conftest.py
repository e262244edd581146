"""What the tests of the page without a server share: npm packages, and an export of nano."""

import shutil
import subprocess
import sys

import pytest
from checkout import own_packages

from modeling_ttt import nano_checkpoint
from spaces_demo.web import site


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """`node_modules`, as `package-lock.json` pins them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed (https://nodejs.org)")
    try:
        return site.install_packages(tmp_path_factory.mktemp("npm") / "packages")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """Nano in float32, as `ttt export` writes it."""
    pytest.importorskip("onnxscript", reason="the extra `edge` is not installed")
    folder = tmp_path_factory.mktemp("export") / "nano"
    command = [sys.executable, "-m", "ttt_cli", "export", nano_checkpoint(), folder]
    subprocess.run(command, env=own_packages(), check=True, capture_output=True, timeout=600)
    return folder
