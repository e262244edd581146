"""The walls of the house: who may import whom, and that every source file also works as remote code."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

MODEL_PACKAGES = ("modeling_ttt", "processing_ttt")
OWN = {"modeling_ttt", "processing_ttt", "text_to_talk", "finetune", "spaces_demo", "ttt_cli"}
# Packages whose docstrings, comments and error messages are in plain technical English, with lines of at most 120
# characters: add a package when it is clean.
PLAIN_PACKAGES = ("modeling_ttt", "processing_ttt", "text_to_talk")
# word -> what docs/glossary.md has for it
AVOIDED_WORDS = {
    r"sounds?": "audio",
    r"hears?|heard|hearing|listens?": "encodes, takes",
    r"speaks?|spoken": "decodes, has audio",
    r"says?|said|tells?|told": "states, returns, names",
    r"knows?|whoever|nobody": "depends on, independent of",
    r"stands?|lies": "is",
    r"surest?": "most confident",
    r"stretch(es)?": "segment",
    r"formerly|no longer": "what is, not what was",
}
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


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Lines of docstrings, comments and error messages with their numbers, without names of arguments and of code."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        node.body[0].value for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    ]
    raised = [text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in ast.walk(node)]
    for text in docstrings + raised:
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            lines = re.sub(
                r"```.*?```|`[^`]*`|^ *\w+ (?=\()",
                lambda code: "\n" * code[0].count("\n"),
                text.value,
                flags=re.DOTALL | re.MULTILINE,
            )
            yield from enumerate(lines.split("\n"), start=text.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], re.sub(r"`[^`]*`", "", token.string)


@pytest.mark.parametrize("package", PLAIN_PACKAGES)
def test_docstrings_comments_and_messages_use_the_words_of_the_glossary(package):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}: better {better}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in prose(path)
        for word, better in AVOIDED_WORDS.items()
        if (match := re.search(rf"\b({word})\b", line, re.IGNORECASE))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("package", PLAIN_PACKAGES)
def test_lines_have_at_most_120_characters(package):
    for path in (ROOT / package).rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            assert len(line) <= 120, f"{path.relative_to(ROOT)}:{number}"


def test_files_of_the_model_packages_fit_on_a_few_screens():
    lengths = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
