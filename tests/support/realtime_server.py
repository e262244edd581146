"""A server process with nano, and its recorded questions as the Realtime protocol has audio."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
from checkout import ROOT
from realtime_fixtures import RATE

from processing_ttt import load_audio

QUESTIONS = ROOT / "checkpoints" / "ttt-nano" / "questions"


@contextmanager
def server() -> Iterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "spaces_demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"})
    try:
        end = time.monotonic() + 300  # also on a machine that has much else to do
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=30).raise_for_status()
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def answer(name: str) -> str:
    """The answer that nano gives to a recorded question."""
    rows = map(json.loads, (QUESTIONS / "questions.jsonl").read_text().splitlines())
    return next(row["answer"] for row in rows if row["file"] == name)


def recording(name: str) -> np.ndarray:
    return (load_audio(QUESTIONS / name, RATE) * 32767).astype("<i2")
