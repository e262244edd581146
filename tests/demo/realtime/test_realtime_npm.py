"""npm's `openai` and `@openai/agents-realtime`, unchanged and pinned, against a server process with nano."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from checkout import ROOT
from realtime_server import answer, recording, server

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytestmark = pytest.mark.slow
TALK = Path(__file__).with_name("talk.mjs")
PINNED = ROOT / "tests" / "support" / "realtime_npm"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The script, recordings, and packages as `package-lock.json` pins them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node and npm are not installed (https://nodejs.org)")
    folder = tmp_path_factory.mktemp("npm")
    for path in (TALK, *PINNED.iterdir()):
        shutil.copyfile(path, folder / path.name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install its packages: {done.stderr[-300:]}")
    for name in ("1", "10", "6"):
        (folder / f"{name}.pcm").write_bytes(recording(f"{name}.wav").tobytes())
    return folder


@pytest.fixture(scope="module")
def url():
    with server() as url:
        yield url.replace("http", "ws")


@pytest.fixture
def talk(folder, url):
    def run(client):
        command = ["node", "talk.mjs", client, url]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.parametrize("client", ["agents", "openai"])
def test_a_client_for_node_has_a_conversation_and_interrupts(talk, client):
    said = talk(client)
    first, cut, last = said["transcripts"]
    assert "ten" in first.lower() and "vienna" in last.lower()
    assert len(cut) < len(answer("10.wav"))
    assert said["seconds"] > 2 and "conversation.item.truncated" in said["events"]
