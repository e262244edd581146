"""The rooms of `spaces_demo`: which may import which, and which know Gradio, HTTP and Ray."""

import ast

import pytest
from import_graph import OURS, circles, imported_modules, modules

DEMO = modules("spaces_demo")
GRAPH = {name: imported_modules(name) & DEMO.keys() for name in DEMO}
# What a room may import besides itself; modules outside of the rooms put the rooms together.
ALLOWED = {
    "service": (),
    "realtime": ("service",),
    "http": ("service", "realtime"),
    "page": ("service", "http"),
    "web": (),
}
# Who may import which library.
LIBRARIES = {
    "gradio": ("page", "http.endpoints", "http.mcp_tools", "http.server", "commands", "app"),
    "fastapi": ("http", "realtime.routes"),
    "starlette": ("http", "realtime.routes"),
    "uvicorn": ("http.listener",),
    "ray": ("http.serve",),
    "spaces": ("space",),
}


def room(name):
    """The room of a module, or `None` of one in none."""
    part = name.split(".")[1] if "." in name else ""
    return part if part in ALLOWED else None


def test_there_are_five_rooms_and_what_starts_them():
    outside = {name.partition(".")[2] for name in DEMO if room(name) is None}
    assert outside == {"", "__main__", "app", "commands", "serve", "space", "zero_gpu"}


@pytest.mark.parametrize("name", GRAPH)
def test_a_room_imports_only_itself_and_rooms_below_it(name):
    if room(name) is not None:
        for other in GRAPH[name]:
            assert room(other) in (room(name), *ALLOWED[room(name)]), f"{name} imports {other}"


def test_the_page_takes_nothing_of_http_but_the_endpoints_that_it_registers():
    taken = {other for name in GRAPH if room(name) == "page" for other in GRAPH[name] if room(other) == "http"}
    assert taken == {"spaces_demo.http.endpoints"}


def test_no_module_imports_itself_by_way_of_others():
    assert circles(GRAPH) == []


@pytest.mark.parametrize("name", DEMO)
def test_a_library_is_known_to_its_room_only(name):
    tree = ast.parse(OURS[name].read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    for library in {module.split(".")[0] for module in imported} & LIBRARIES.keys():
        places = LIBRARIES[library]
        assert f"{name}.".startswith(tuple(f"spaces_demo.{place}." for place in places)), f"{name} imports {library}"
