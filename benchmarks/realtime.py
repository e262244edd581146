"""
From the end of speech to the first audio of the reply, through the WebSocket of `/v1/realtime`.

    python benchmarks/realtime.py --out benchmarks/results/realtime.json      # three minutes

Starts `ttt demo` with nano in a process of its own, and sends recorded questions as a microphone does, a tenth of a
second at a time, each in a session of its own; then the same questions in sessions without turn detection, whose turn
ends with a button. Times are those of the client. The last of the speech in a recording is found by its level.

Times depend on what else the machine does. So the seconds that the processor itself works from the end of a turn to the
first audio are measured, too, in this process: on an idle core they pass as time.
"""

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import websockets

from processing_ttt import load_audio
from spaces_demo.app import load_service
from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.realtime.session import RealtimeSession

ROOT = Path(__file__).resolve().parents[1]
QUESTIONS = ROOT / "checkpoints" / "ttt-nano" / "questions"
RATE = 24_000
PIECE = RATE // 10
SILENCE_MS = 500  # that ends a turn: the default of the protocol
QUIET = 0.02  # of the loudest sample: below is no speech


@asynccontextmanager
async def served(port: int) -> AsyncIterator[tuple[str, int]]:
    """Run a server, and give the address of its realtime route and its process id."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "spaces_demo", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
    url = f"ws://127.0.0.1:{port}/v1/realtime?model=ttt"
    try:
        while True:
            try:
                async with websockets.connect(url):
                    break
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError("The server ended.") from None
                await asyncio.sleep(0.2)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    """Find a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def question(path: Path) -> tuple[np.ndarray, float]:
    """Read a recorded question, and find when its speech ends, in seconds."""
    samples = load_audio(path, RATE)
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    return (np.clip(samples, -1, 1) * 32767).astype("<i2"), float(loud[-1] + 1) / RATE


async def ask(url: str, samples: np.ndarray, speech_end: float, manual: bool) -> dict[str, float]:
    """Ask once, and measure."""
    at: dict[str, float] = {}
    async with websockets.connect(url, max_size=None) as socket_:

        async def send(kind: str, **fields: Any) -> None:
            await socket_.send(json.dumps({"type": kind, **fields}))

        async def listen() -> None:
            async for message in socket_:
                event = json.loads(message)
                at.setdefault(event["type"], time.perf_counter())
                if event["type"] == "error":
                    raise RuntimeError(event["error"]["message"])
                if event["type"] == "response.done":
                    return

        turn_detection = None if manual else {"type": "server_vad", "silence_duration_ms": SILENCE_MS}
        audio = {"input": {"turn_detection": turn_detection}}
        await send("session.update", session={"type": "realtime", "audio": audio})
        listening = asyncio.create_task(listen())
        begin = time.perf_counter()
        padded = samples if manual else np.concatenate([samples, np.zeros(2 * RATE, "<i2")])
        for start in range(0, len(padded), PIECE):
            piece = padded[start : start + PIECE]
            await asyncio.sleep(max(0.0, begin + (start + len(piece)) / RATE - time.perf_counter()))
            if "response.output_audio.delta" in at:
                break
            await send("input_audio_buffer.append", audio=base64.b64encode(piece.tobytes()).decode())
        if manual:
            speech_ended = time.perf_counter()
            await send("input_audio_buffer.commit")
            await send("response.create")
        else:
            speech_ended = begin + speech_end
        await listening
    first = at["response.output_audio.delta"]
    found = {"end_of_speech_to_audio": first - speech_ended}
    if not manual:
        found["end_of_turn_to_audio"] = first - at["input_audio_buffer.speech_stopped"]
    return found


async def measure(repeats: int) -> dict[str, Any]:
    """Ask every question, by voice and by button."""
    paths = sorted((path for path in QUESTIONS.glob("*.wav") if "reply" not in path.name), key=lambda path: path.name)
    recordings = {path.name: question(path) for path in paths}
    rows: dict[str, list[dict[str, float]]] = {"server_vad": [], "manual": []}
    async with served(free_port()) as (url, _):
        for mode in ("server_vad", "manual"):
            await ask(url, *recordings["1.wav"], mode == "manual")  # the first one pays for what is loaded on first use
            for _ in range(repeats):
                for samples, speech_end in recordings.values():
                    rows[mode].append(await ask(url, samples, speech_end, mode == "manual"))
    torch.set_num_threads(1)
    work = await processor_seconds([samples for samples, _ in recordings.values()])
    return {
        "silence_ms": SILENCE_MS,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),  # the benchmark's own part is below 1.5
        "questions": len(recordings) * repeats,
        "server_vad": _summary(rows["server_vad"], "end_of_speech_to_audio", "end_of_turn_to_audio"),
        "manual": _summary(rows["manual"], "end_of_speech_to_audio"),
        "processor_seconds": {
            "median": round(statistics.median(work), 3),
            "longest": round(max(work), 3),
        },
    }


async def processor_seconds(recordings: list[np.ndarray]) -> list[float]:
    """Measure the processor's work from the end of a turn to the first audio, in a session without a network."""
    service, found = load_service(device="cpu"), list[float]()
    for samples in [recordings[0], *recordings]:
        first, over = list[float](), asyncio.Event()

        async def take(event: dict[str, Any], first: list[float] = first, over: asyncio.Event = over) -> None:
            if event["type"] == "response.output_audio.delta" and not first:
                first.append(time.process_time())
            elif event["type"] == "response.done":
                over.set()

        session = RealtimeSession(service, RealtimeLimits(), take)
        audio = {"input": {"turn_detection": None}}
        await session.handle(json.dumps({"type": "session.update", "session": {"audio": audio}}))
        piece = base64.b64encode(samples.tobytes()).decode()
        await session.handle(json.dumps({"type": "input_audio_buffer.append", "audio": piece}))
        begun = time.process_time()
        await session.handle(json.dumps({"type": "input_audio_buffer.commit"}))
        await session.handle(json.dumps({"type": "response.create"}))
        await over.wait()
        found.append(first[0] - begun)
    return found[1:]  # the first one pays for what is loaded on first use


def _summary(rows: list[dict[str, float]], *names: str) -> dict[str, dict[str, float]]:
    return {
        name: {
            "median": round(statistics.median(row[name] for row in rows), 3),
            "longest": round(max(row[name] for row in rows), 3),
        }
        for name in names
    }


def report(
    measure: Callable[[Any], Coroutine[Any, Any, Any]], description: str | None, option: str, default: float
) -> None:
    """Measure as the command line says, print what was found, and write it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(f"--{option}", type=type(default), default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = asyncio.run(measure(getattr(options, option)))
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    report(measure, __doc__, "repeats", 2)
