"""
One vocabulary: words that docstrings, comments, messages and documents do not use, because docs/glossary.md has others.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from checkout import ROOT

# Word -> the one to use, in comments and strings.
THINGS = "recipe|recipes|config|file|files|manifest|records?|card|header|index|name|message|module|model|server|system"
INSTEAD = {
    r"sounds?": "audio, waveform or recording",
    r"surest": "most confident",
    r"stretch(es)?": "segment",
    r"heard": "transcribed, or transcript",
    r"misheard": "replaced",
    r"hears?|hearing": "takes, encodes or transcribes",
    r"told": "given, or passed",
    r"stands?|lies": "is",
    r"formerly": "what is, not what was",
    rf"({THINGS}) (says?|said|tells?)": "states, names or has",
}
# Further ones, in the docstrings, comments and error messages of the packages that users program with.
INSTEAD_IN_MODELS = {
    r"listens?": "encodes, takes",
    r"speaks?|spoken": "decodes, has audio",
    r"says?|said|tells?": "states, returns, names",
    r"knows?|whoever|nobody": "depends on, independent of",
    r"no longer": "what is, not what was",
}
MODELS = ("modeling_ttt", "processing_ttt", "text_to_talk")
OTHERS = ("finetune", "spaces_demo", "ttt_cli", "benchmarks", "tests/support")
SCRIPTS = [*(ROOT / "spaces_demo").rglob("static/*.js"), *(ROOT / "tests").rglob("*.mjs")]
DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG", "finetune/README")] + [
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "checkpoints").glob("*/README.md"),
    *(ROOT / "finetune").rglob("*.yaml"),
]
QUESTIONS = ROOT / "finetune" / "nano"  # its strings are what people ask and nano answers


def sources(*packages: str) -> list[Path]:
    """The source files of some packages."""
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]


def comments(source: str) -> list[tuple[int, str]]:
    """Comments with their lines."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Every string of several words with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 1:
            yield node.lineno, node.value


def script_comments(source: str) -> list[tuple[int, str]]:
    """Comments of a script or a recipe with their lines."""
    lines = enumerate(source.splitlines(), 1)
    return [(number, found[1]) for number, line in lines if (found := re.search(r"(?:^|\s)(?://|#) (.*)", line))]


def docstrings_and_messages(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings and the strings of `raise` statements with their lines."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [node.body[0].value for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    texts += [text for node in ast.walk(tree) if isinstance(node, ast.Raise) for text in ast.walk(node)]
    for text in texts:
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            yield text.lineno, text.value


def avoided(text: str, words: dict[str, str]) -> str | None:
    """Name the first avoided word of a text and the better one; code and names of arguments do not count."""
    prose = re.sub(r"```.*?```|`[^`]*`|^ *\w+ (?=\()", "", text, flags=re.DOTALL | re.MULTILINE)
    for word, better in words.items():
        if found := re.search(rf"(?<![\w\"'/-])({word})(?![\w\"'/-])", prose, re.IGNORECASE):
            return f"{found[0]!r}: better {better}"
    return None


def test_avoided_words_are_found_in_every_kind_of_prose():
    source = '"""A sound."""\nx = f"{x} was heard"  # the surest\ny = "a `sound`, asterisk-core-sounds"\n'
    found = [avoided(text, INSTEAD) for _, text in (*strings(source), *comments(source))]
    assert sorted(word.split("'")[1] for word in found if word) == ["heard", "sound", "surest"]


@pytest.mark.parametrize("path", sources(*MODELS, *OTHERS), ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_keeps_to_the_glossary(path):
    source = path.read_text(encoding="utf-8")
    is_model = path.relative_to(ROOT).parts[0] in MODELS  # whose other strings are prompts
    has_prompts = is_model or QUESTIONS in path.parents
    texts = (*(docstrings_and_messages if has_prompts else strings)(source), *comments(source))
    words = INSTEAD | INSTEAD_IN_MODELS if is_model else INSTEAD
    found = [f"line {line}: {word}" for line, text in texts if (word := avoided(text, words))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", [*SCRIPTS, *DOCUMENTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_scripts_recipes_and_documents_keep_to_the_glossary(path):
    source = path.read_text(encoding="utf-8")
    texts = enumerate(source.splitlines(), 1) if path.suffix == ".md" else script_comments(source)
    found = [f"line {line}: {word}" for line, text in texts if (word := avoided(text, INSTEAD))]
    assert not found, "\n".join(found)


MODULE_DOCSTRINGS = {
    path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in sources(*MODELS, *OTHERS)
}


def test_modules_state_what_they_depend_on_in_one_form():
    found = {str(path) for path, text in MODULE_DOCSTRINGS.items() if re.search(r"\b(Knows|[Dd]oes not know)\b", text)}
    assert found == set(), "`Depends on ... Independent of ...`"
