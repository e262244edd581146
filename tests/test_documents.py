"""
README and docs: their blocks run as they are or give the reason why not, their links lead somewhere, and they stay
short enough to read.
"""

import asyncio
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from checkout import ROOT
from realtime_server import recording, server
from typer.testing import CliRunner

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "finetune" / "README.md"]
NOT_RUN, SLOW, WITH_SERVER = "not run: ", "slow", "with a server"

# A block may have comments right above it: `<!-- not run: the reason -->`, `<!-- slow -->`, `<!-- with a server -->`
# (of `ttt demo`, at its usual address), or any other.
FENCE = re.compile(
    r"(?P<comments>(?:^<!--[^\n]*-->\n)*)^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"(?:\]\(|src=\")([^)\"\s]+)")


@dataclass(frozen=True)
class Block:
    """A fenced block of code with the comments right above it."""

    language: str
    code: str
    comments: tuple[str, ...]

    @property
    def runs(self) -> bool:
        is_left_out = self.needs_server or any(comment.startswith(NOT_RUN) for comment in self.comments)
        return self.language in ("python", "bash") and not is_left_out

    @property
    def needs_server(self) -> bool:
        return WITH_SERVER in self.comments

    @property
    def is_slow(self) -> bool:
        return SLOW in self.comments


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["language"], found["code"], tuple(re.findall(r"<!-- (.*?) -->", found["comments"])))
        for found in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(slow: bool) -> list[Path]:
    return [
        page for page in PAGES if any(b.runs for b in blocks(page)) and slow == any(b.is_slow for b in blocks(page))
    ]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout, so that what an example writes does not land in ours."""
    (tmp_path / "checkpoints").symlink_to(ROOT / "checkpoints", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_page(page: Path) -> None:
    """Run the blocks of a page one after the other; those in Python share their names."""
    names: dict = {}
    for number, block in enumerate(blocks(page)):
        if block.runs and block.language == "python":
            exec(compile(block.code, f"{name(page)} block {number}", "exec"), names)
        elif block.runs:
            for line in commands(block):
                run_command(line)


def commands(block: Block) -> list[list[str]]:
    """Take a block of shell apart: a command for each line, continued lines joined, comments left out."""
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str]) -> str:
    """Run `ttt ...` in this process, which has imported what that takes, and anything else in its own."""
    if words[0] == "ttt":
        from ttt_cli import app

        result = CliRunner().invoke(app, words[1:])
        assert result.exit_code == 0, f"{shlex.join(words)}: {result.output} {result.exception}"
        return result.stdout
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("page", pages_with(slow=False), ids=name)
def test_the_blocks_of_a_page_run_in_order(page, checkout):
    run_page(page)


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with(slow=True), ids=name)
def test_the_blocks_of_a_slow_page_run_in_order(page, checkout):
    pytest.importorskip("pocketsphinx")
    run_page(page)


@pytest.mark.slow
def test_the_blocks_for_a_server_run_with_one(checkout):
    pytest.importorskip("openai", reason="the dev extra is not installed")
    pytest.importorskip("gradio", reason="the demo extra is not installed")
    found = [block for page in PAGES for block in blocks(page) if block.needs_server]
    names: dict = {}
    with server() as url:
        for block in found:
            exec(block.code.replace("http://127.0.0.1:7860", url.removesuffix("/v1")), names)
        played = asyncio.run(asyncio.wait_for(first_reply(names["talk"]), 60))
    assert len(found) == 3 and soundfile.info(checkout / "speech.wav").duration > 1
    assert len(played) > 2000 and len(played) % 2 == 0


async def first_reply(talk) -> bytes:
    """Ask a recorded question by the client of docs/realtime.md, and return the audio until it pauses for a second."""
    played, came = bytearray(), asyncio.Event()

    async def microphone():
        speech = np.concatenate([recording("1.wav"), np.zeros(24_000, "<i2")])
        for piece in np.array_split(speech, 30):
            yield piece.tobytes()

    def speaker(piece):
        played.extend(piece)
        came.set()

    talking = asyncio.create_task(talk(microphone(), speaker))
    await came.wait()
    length = 0
    while length < len(played):
        length = len(played)
        await asyncio.sleep(1)
    talking.cancel()
    return bytes(played)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_block_that_is_not_run_says_why(page):
    for block in blocks(page):
        for comment in block.comments:
            assert not comment.startswith("not run") or len(comment.removeprefix(NOT_RUN)) > 5
        assert block.language in ("python", "bash") or block.language in ("text", "yaml", "bibtex"), block.language
    text = page.read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(blocks(page)), (
        "a fence that is not at the beginning of its line, or has no language"
    )


def test_most_blocks_of_python_run():
    python = [block for page in PAGES for block in blocks(page) if block.language == "python"]
    assert sum(block.runs for block in python) >= 2 * len(python) / 3


def test_the_readme_s_first_command_answers_as_it_shows(checkout):
    install, output = blocks(README)[:2]
    *_, command = install.code.split("&&")
    printed = run_command(shlex.split(command.strip().removeprefix(".venv/bin/"))).splitlines()
    shown = output.code.splitlines()
    assert printed[0] == shown[0]  # the answer
    seconds = soundfile.info(checkout / "reply.wav").duration
    assert shown[1].split(",")[0] == f"{seconds:.2f} s of speech in reply.wav"  # how long it took is the machine's


def test_ci_runs_the_readme_s_test_command():
    command = re.search(r"<!-- test command -->\n```bash\n(.*?)\n```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert command is not None
    assert command[1].endswith(".venv/bin/pytest")


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 2000


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tables_have_at_most_seven_columns(page):
    for line in without_code(page).splitlines():
        if line.startswith("|"):
            assert line.replace("\\|", "").count("|") - 1 <= 7, line


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(without_code(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """The headings of a page as addresses, the way GitHub and the documentation site make them."""
    headings = re.findall(r"^#+ (.*)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_each_page_is_in_the_index_and_in_the_navigation():
    index, navigation = (ROOT / "docs" / "index.md").read_text(), (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name in navigation
        assert page.name == "index.md" or f"]({page.name})" in index
