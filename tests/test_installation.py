"""`pip install .`, not editable, then use from another folder: the wheel is whole."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from checkout import ROOT

MODEL_PACKAGES = ("modeling_ttt/", "processing_ttt/")
NANO = "modeling_ttt/checkpoints/ttt-nano"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--disable-pip-version-check",
        "-w",
        str(folder),
        str(ROOT),
    ]
    try:
        built = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("pip cannot reach an index for the build backend here")
    if "build dependencies" in built.stderr and built.returncode:
        pytest.skip("pip cannot fetch the build backend here")
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_packages_checkpoint_and_types_but_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "ttt_cli/main.py",
        "text_to_talk/__init__.py",
        "modeling_ttt/py.typed",
        "processing_ttt/py.typed",
        f"{NANO}/model.safetensors",
        f"{NANO}/codec/model.safetensors",
        "ttt_finetune/nano/checkpoint/make_checkpoint.py",
        "ttt_finetune/recipes/low_resource_lora.yaml",
        "spaces_demo/app.py",
        "spaces_demo/page/static/voice.js",
        "spaces_demo/web/static/index.html",
        "spaces_demo/web/package-lock.json",
    ):
        assert wanted in names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def test_the_wheel_carries_codec_and_sources_once(wheel):
    files = [file for file in zipfile.ZipFile(wheel).infolist() if file.filename.startswith(MODEL_PACKAGES)]
    names = [file.filename for file in files]
    assert {name.rpartition("/")[0] + "/" for name in names if name.endswith(".py")} == set(MODEL_PACKAGES)
    assert [name for name in names if name.endswith("codec_ttt.py")] == ["processing_ttt/codec_ttt.py"]
    weights = {file.filename: file.CRC for file in files if file.filename.endswith(".safetensors")}
    assert set(weights) == {f"{NANO}/model.safetensors", f"{NANO}/codec/model.safetensors"}
    assert len(set(weights.values())) == 2


def test_the_wheel_leaves_the_name_finetune_to_the_package_that_has_it_on_pypi(wheel):
    archive = zipfile.ZipFile(wheel)
    tops = {name.partition("/")[0] for name in archive.namelist()}
    assert "ttt_finetune" in tops and "finetune" not in tops
    for name in archive.namelist():
        if name.endswith(".py"):
            source = archive.read(name).decode()
            assert not re.search(r"\bfinetune\.\w+\.", source), name
            for node in ast.walk(ast.parse(source)):
                imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                imported += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert "finetune" not in {module.partition(".")[0] for module in imported}, name


def test_the_description_on_pypi_leads_nowhere_inside_the_repository(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    description = metadata.partition("\n\n")[2]
    assert "# Text-to-Talk" in description and "](https://arxiv.org/abs/2509.20072)" in description
    assert "<img" not in description and not re.search(r"\]\((?!https?://)", description)


def run(wheel: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `ttt` as the wheel brings it, beside another package called `finetune`."""
    site = folder / "site"
    zipfile.ZipFile(wheel).extractall(site)
    (site / "finetune.py").write_text("raise ImportError('this is the other finetune')")
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import ttt_cli; "
        "assert ttt_cli.__file__.startswith(sys.path[0]); sys.argv[0] = 'ttt'; ttt_cli.main()"
    )
    command = [sys.executable, "-c", program, str(site), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_the_installed_command_talks_from_any_folder(wheel, tmp_path):
    done = run(wheel, tmp_path, "talk", "What is two plus three?", "--out", "reply.wav")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reply.wav").is_file()


def test_the_installed_command_has_its_recipes(wheel, tmp_path):
    done = run(wheel, tmp_path, "train", "low_resource_lora")
    assert done.returncode == 1 and done.stderr.startswith("Error: The recipe does not say `model`"), done.stderr
