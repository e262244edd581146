"""The rooms of `finetune`: which may import which, read from the source files, imports inside functions included."""

import ast

import pytest
from import_graph import OURS, circles, imported_modules, modules

# A room imports only itself and rooms before it.
ROOMS = (
    "hardware",
    "yaml_files",
    "progress",
    "runs",
    "adapters",
    "data",
    "evaluation",
    "training",
    "publishing",
    "train",
    "nano",
)
NANO_ROOMS = ("domain", "speech", "codec", "measure", "checkpoint")

FINETUNE = modules("finetune")
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
