"""
YAML that people write: recipes, mixtures, and values on the command line.

Depends on no other module of `finetune`.
"""

import reprlib
from pathlib import Path
from typing import Any

import yaml


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that comes twice, of which YAML would take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                problem = f"the key `{key.value}` comes twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """
    Read a YAML file.

    Args:
        path (`Path`): The file.

    Returns:
        What is written there, made of plain values, lists and dictionaries.

    Raises:
        ValueError: If it is no YAML, saying where.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), repr(str(path)))
    except UnicodeDecodeError as error:
        raise ValueError(f"{str(path)!r} is no text in UTF-8, so it is no YAML: {error}.") from error


def parse_yaml(text: str, name: str) -> Any:
    """
    Read YAML from a text.

    Args:
        text (`str`): The YAML.
        name (`str`): What it is, for the error.

    Returns:
        What is written there.

    Raises:
        ValueError: If it is no YAML, saying where.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)  # noqa: S506 - a kind of `SafeLoader`
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise ValueError(f"{name} is no valid YAML ({where}{error.problem or error.context}).") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{name} is no valid YAML ({str(error).splitlines()[0]}).") from error


def shown(value: object) -> str:
    """Write a value for an error, short however often it repeats itself by aliases."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxother = 2, 100, 100
    return short.repr(value)
