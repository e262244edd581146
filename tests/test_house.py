"""The walls of the house: who may import whom, and that every source file also works as remote code."""

import ast
import re
from pathlib import Path

import pytest
from checkout import ROOT

MODEL_PACKAGES = ("modeling_ttt", "processing_ttt")
OWN = {"modeling_ttt", "processing_ttt", "text_to_talk", "finetune", "spaces_demo", "ttt_cli"}
SOURCES = [path for package in MODEL_PACKAGES for path in sorted((ROOT / package).glob("*.py"))]


def imports(path: Path) -> list[tuple[int, str]]:
    """Every import of a file as (level, module): level 0 is absolute."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or ""))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_model_package_imports_its_own_siblings_only(path):
    for level, module in imports(path):
        if level == 0:
            assert module.split(".")[0] not in OWN, f"{path.name} imports {module}"
        else:
            assert level == 1, f"{path.name} imports from a parent package"
            assert module, f"{path.name} says `from . import`, which remote code cannot"
            assert "." not in module
            assert (path.parent / f"{module}.py").is_file()


def test_file_names_are_unique_over_both_packages_because_publishing_copies_them_flat():
    names = [path.name for path in SOURCES if path.name != "__init__.py"]
    assert len(names) == len(set(names))


def test_the_packages_are_flat():
    for package in MODEL_PACKAGES:
        folders = [path.name for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"]
        assert folders == []


def test_the_map_for_contributors_has_every_module_of_finetune():
    listed = set(re.findall(r"\w+\.py", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert {path.name for path in (ROOT / "finetune").rglob("*.py")} - {"__init__.py"} <= listed


def test_nobody_imports_the_command_line_or_the_demo():
    for package in ("modeling_ttt", "processing_ttt", "finetune"):
        for path in (ROOT / package).rglob("*.py"):
            assert not {"ttt_cli", "spaces_demo", "text_to_talk"} & {
                module.split(".")[0] for _, module in imports(path)
            }


def test_only_what_made_nano_needs_torchaudio_so_that_a_torch_for_cpus_will_do():
    files = [path for package in OWN for path in (ROOT / package).rglob("*.py")]
    needing = {path for path in files if "torchaudio" in {module.split(".")[0] for _, module in imports(path)}}
    assert needing and all(path.is_relative_to(ROOT / "finetune" / "nano") for path in needing)


def test_nothing_is_unpickled_or_evaluated():
    for package in (*MODEL_PACKAGES, "finetune", "spaces_demo"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
            # A converter reads released files; `weights_only` is what keeps torch from running what they hold.
            safe = {"torch.load"} if "_convert" in path.name and all(map(loads_weights_only, calls)) else set()
            names = {ast.unparse(call.func) for call in calls}
            assert not {"torch.load", "pickle.load", "pickle.loads", "eval", "exec"} & names - safe, path


def loads_weights_only(call: ast.Call) -> bool:
    """Whether a call is no `torch.load`, or one that says `weights_only=True`."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    return ast.unparse(call.func) != "torch.load" or given.get("weights_only") == "True"


def test_files_of_the_model_packages_fit_on_a_few_screens():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}
