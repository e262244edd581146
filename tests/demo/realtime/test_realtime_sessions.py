"""Sixteen sessions of nano at once for three minutes, as `benchmarks/realtime_sessions.py` holds them."""

import json
import subprocess
import sys

import pytest
from checkout import ROOT, own_packages

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("psutil", reason="the finetune extra is not installed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no addresses 127.0.0.2 and so on")
def test_sixteen_sessions_get_their_own_answers_and_the_memory_stays(tmp_path):
    command = [sys.executable, "benchmarks/realtime_sessions.py", "--out", tmp_path / "found.json"]
    done = subprocess.run(command, cwd=ROOT, env=own_packages(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["wrong"] == [] and found["answers"] >= found["different_answers"] == 16
    assert found["refused_responses"] > 0 and len(found["messages"]) == 2  # too many of one address, and one session
    assert all("try again" in message for message in found["messages"])
    first, *_, last = found["memory_mib_every_30_s"]
    assert last < 1.1 * first
