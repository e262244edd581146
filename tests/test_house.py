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


EVERYTHING = [path for top in (*sorted(OWN), "benchmarks", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_files_fit_on_a_few_screens():
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring and without functions inside it."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    inside = [node for statement in body for node in ast.walk(statement) if isinstance(node, FUNCTIONS)]
    nested = {line for node in inside for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    return sum(line not in nested for node in body for line in range(node.lineno, (node.end_lineno or node.lineno) + 1))


def test_functions_fit_on_a_screen():
    source = 'def f():\n    """Why."""\n    x = (\n        1\n    )\n    def g():\n        pass\n    return x\n'
    assert own_lines(ast.parse(source).body[0]) == 4
    lengths = {
        f"{path}: {node.name}": own_lines(node)
        for path in EVERYTHING
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, FUNCTIONS)
    }
    assert {name: length for name, length in lengths.items() if length > 60} == {}


def documented(docstring: str | None) -> list[str]:
    """The names under `Args:` of a docstring."""
    found = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", f"{docstring or ''}\n", re.MULTILINE)
    lines = re.findall(r"^ {4}(\w+(?:, \w+)*)(?: \(|:)", found[1] if found else "", re.MULTILINE)
    return [name for names in lines for name in names.split(", ")]


def test_a_docstring_has_no_argument_that_the_function_lacks():
    assert documented("Do.\n\nArgs:\n    a, b (`int`): Both.\n    c: More,\n        c: even.\n") == ["a", "b", "c"]
    wrong = []
    for path in EVERYTHING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, FUNCTIONS) and node.args.kwarg is None:
                names = {argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)}
                wrong += [
                    f"{path}: {node.name}({name})" for name in documented(ast.get_docstring(node)) if name not in names
                ]
    assert wrong == []


def test_no_comment_behind_a_closing_bracket_broke_its_line_in_the_formatter():
    behind = re.compile(r"^\s*[])}]+,?  # (?!fmt:|noqa|type:)", re.MULTILINE)
    assert behind.search("x = (\n    1\n)  # one")
    assert [str(path) for path in EVERYTHING if behind.search(path.read_text(encoding="utf-8"))] == []
