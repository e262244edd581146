"""One vocabulary: words that docstrings, comments and messages do not use, because docs/glossary.md has others."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from checkout import ROOT

# Word -> the one to use.
INSTEAD = {
    r"sounds?": "audio, waveform or recording",
    r"surest": "most confident",
    r"stretch(es)?": "segment",
    r"heard": "transcribed, or transcript",
    r"misheard": "replaced",
    r"told": "given, or passed",
}
WORDS = re.compile(rf"(?<![\w`\"'/-])({'|'.join(INSTEAD)})(?![\w`\"'/-])", re.IGNORECASE)
CHECKED = [
    path
    for package in ("finetune", "ttt_cli", "benchmarks")
    for path in sorted((ROOT / package).rglob("*.py"))
    if (ROOT / "finetune" / "nano") not in path.parents
]


def prose(path: Path) -> list[tuple[int, str]]:
    """Comments, docstrings and every other string of several words, each with its line."""
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    strings = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return found + [
        (node.lineno, node.value) for node in strings if isinstance(node.value, str) and len(node.value.split()) > 1
    ]


def test_the_words_are_found_in_every_kind_of_prose(tmp_path):
    (tmp_path / "module.py").write_text(
        '"""A sound."""\nx = f"{x} was heard"  # the surest\ny = "a `sound`, asterisk-core-sounds"\n'
    )
    found = [match[1] for _, text in prose(tmp_path / "module.py") for match in WORDS.finditer(text)]
    assert sorted(found) == ["heard", "sound", "surest"]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_keeps_to_the_glossary(path):
    for line, text in prose(path):
        match = WORDS.search(text)
        assert match is None, f"{path.name}:{line}: {match[0]!r} in {text[:80]!r}: see docs/glossary.md"
