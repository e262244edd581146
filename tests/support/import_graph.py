"""Which of our own modules import which, read from the source files, imports inside functions included."""

import ast
from pathlib import Path

from checkout import ROOT

PACKAGES = ("modeling_ttt", "processing_ttt", "finetune", "spaces_demo", "ttt_cli")


def modules(package: str) -> dict[str, Path]:
    """Every module of a package by its dotted name; a package has the name of its folder."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


OURS = {name: path for package in PACKAGES for name, path in modules(package).items()}


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
