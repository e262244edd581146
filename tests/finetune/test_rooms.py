"""The rooms of `finetune`: which may import which, read from the source files, imports inside functions included."""

import ast
from pathlib import Path

import pytest
from checkout import ROOT

# A room imports only itself and rooms before it.
ROOMS = ("hardware", "runs", "adapters", "data", "evaluation", "training", "publishing", "train", "nano")
NANO_ROOMS = ("domain", "speech", "codec", "measure", "checkpoint")
PACKAGES = ("modeling_ttt", "processing_ttt", "finetune", "spaces_demo", "ttt_cli")


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; a package has the name of its folder."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


OURS = {name: path for package in PACKAGES for name, path in modules(package).items()}
FINETUNE = modules("finetune")


def imported_modules(name: str, known: dict[str, Path] = OURS) -> set[str]:
    """The modules of our own that a module imports, anywhere in its source."""
    folder = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = folder.split(".")[: len(folder.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parents, *filter(None, [node.module])])
            found |= {f"{source}.{alias.name}" if f"{source}.{alias.name}" in known else source for alias in node.names}
    return {other for other in found if other in known and other != name}


GRAPH = {name: imported_modules(name) & FINETUNE.keys() for name in FINETUNE}


def room(name: str, depth: int = 1) -> str:
    """The part of a module's name that says in which room it is: the first, or the second for the rooms of nano."""
    return name.split(".")[depth]


def test_every_module_is_in_a_known_room():
    assert {room(name) for name in FINETUNE if name != "finetune"} == set(ROOMS)
    inside = {room(name, 2) for name in FINETUNE if name.startswith("finetune.nano.")}
    assert inside == set(NANO_ROOMS)


@pytest.mark.parametrize("name", GRAPH)
def test_a_room_imports_only_itself_and_rooms_before_it(name):
    for other in GRAPH[name] - {"finetune"}:
        assert ROOMS.index(room(other)) <= ROOMS.index(room(name)), f"{name} imports {other}"
        if name.startswith("finetune.nano.") and other.startswith("finetune.nano."):
            assert NANO_ROOMS.index(room(other, 2)) <= NANO_ROOMS.index(room(name, 2)), f"{name} imports {other}"


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Every circle that a search along the arrows comes upon, as the way from a module back to it."""
    found, finished = [], set()

    def follow(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in finished:
            for other in sorted(graph[name]):
                follow(other, [*way, name])
            finished.add(name)

    for name in graph:
        follow(name, [])
    return found


def test_no_module_imports_itself_by_way_of_others():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]
    assert circles(GRAPH) == []


def test_nobody_outside_nano_imports_nano():
    for name in OURS:
        if not name.startswith("finetune.nano"):
            assert not {other for other in imported_modules(name) if other.startswith("finetune.nano")}, name


def test_only_the_command_line_and_the_demo_s_own_command_know_typer():
    for name, path in OURS.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        if "typer" in imported:
            assert name.startswith("ttt_cli.") or name in ("spaces_demo.commands", "spaces_demo.__main__"), name
