"""
Sixteen realtime sessions at once: does each get its own answers, and does the server keep its memory?

    python benchmarks/realtime_sessions.py --out benchmarks/results/realtime_sessions.json      # four minutes

Starts `ttt demo` with nano in a process of its own. Each session asks one question, again and again in a fresh
conversation: ten have a recording, six ask in writing. Eight come from addresses of their own, eight from one address,
which may have four requests at a time: they are refused at times, and ask again. One session too many is tried.

Answers and their audio must be those that the question gets alone, in this process and without a network.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import psutil
import websockets
from realtime import QUESTIONS, RATE, free_port, question, report, served

from spaces_demo.app import load_service
from spaces_demo.realtime.limits import RealtimeLimits
from spaces_demo.realtime.session import RealtimeSession
from spaces_demo.service import TalkService

SESSIONS = RealtimeLimits().sessions
TEXTS = (
    "What is two plus two?",
    "What is the capital of France?",
    "What is the opposite of hot?",
    "How many days make two weeks?",
    "Today is Friday, what is tomorrow?",
    "How do I spell cat?",
)
MEMORY_SECONDS = 30.0  # between two measurements of memory
RETRY_SECONDS = 1.0
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def questions() -> list[list[dict[str, Any]]]:
    """Return the events that ask each question."""
    asked = list[list[dict[str, Any]]]()
    for name in range(1, SESSIONS - len(TEXTS) + 1):
        samples, _ = question(QUESTIONS / f"{name}.wav")
        audio = [
            base64.b64encode(samples[start : start + RATE].tobytes()).decode() for start in range(0, len(samples), RATE)
        ]
        appended: list[dict[str, Any]] = [{"type": "input_audio_buffer.append", "audio": piece} for piece in audio]
        asked.append([*appended, {"type": "input_audio_buffer.commit"}])
    for text in TEXTS:
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        asked.append([{"type": "conversation.item.create", "item": item}])
    return asked


@dataclass
class Answer:
    """What came for one question, until `response.done`."""

    text: str = ""
    audio: Any = field(default_factory=hashlib.sha256)
    items: list[str] = field(default_factory=list)
    response: dict[str, Any] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> bool:
        """Take an event; returns whether it is the last one."""
        if event["type"] == "error":
            raise RuntimeError(event["error"]["message"])
        if event["type"] == "conversation.item.added":
            self.items.append(event["item"]["id"])
        elif event["type"] == "response.output_audio_transcript.delta":
            self.text += event["delta"]
        elif event["type"] == "response.output_audio.delta":
            self.audio.update(base64.b64decode(event["delta"]))
        elif event["type"] == "response.done":
            self.response = event["response"]
        return bool(self.response)

    @property
    def said(self) -> tuple[str, str]:
        """Text, and a digest of the audio."""
        return self.text, self.audio.hexdigest()


async def alone(service: TalkService, asking: list[dict[str, Any]]) -> tuple[str, str]:
    """Ask in a session of its own, without a network."""
    answer, over = Answer(), asyncio.Event()

    async def take(event: dict[str, Any]) -> None:
        if answer.take(event):
            over.set()

    session = RealtimeSession(service, RealtimeLimits(), take)
    for event in [{"type": "session.update", "session": MANUAL}, *asking, {"type": "response.create"}]:
        await session.handle(json.dumps(event))
    await over.wait()
    return answer.said


@dataclass
class Counts:
    """What sixteen sessions saw."""

    answers: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(SESSIONS), 0))
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


async def keep_asking(
    url: str, number: int, asking: list[dict[str, Any]], expected: tuple[str, str], counts: Counts
) -> None:
    """Ask one question in one session, until this is cancelled."""
    address = f"127.0.0.{2 + min(number, SESSIONS // 2)}"
    async with websockets.connect(url, max_size=None, local_addr=(address, 0)) as connection:

        async def send(event: dict[str, Any]) -> None:
            await connection.send(json.dumps(event))

        await send({"type": "session.update", "session": MANUAL})
        while True:
            answer, begun = Answer(), time.monotonic()
            for event in asking:
                await send(event)
            while answer.response.get("status") != "completed":
                if answer.response:
                    counts.refused.append(answer.response["status_details"]["error"]["message"])
                    answer.response = {}
                    await asyncio.sleep(RETRY_SECONDS)
                await send({"type": "response.create"})
                while not answer.take(json.loads(await connection.recv())):
                    pass
            counts.answers[number] += 1
            counts.seconds.append(time.monotonic() - begun)
            if answer.said != expected:
                counts.wrong.append(f"{answer.text!r} instead of {expected[0]!r}")
            for item in answer.items:
                await send({"type": "conversation.item.delete", "item_id": item})


async def one_too_many(url: str) -> str:
    """Try another session; returns the message that refuses it."""
    async with websockets.connect(url) as connection:
        error = json.loads(await connection.recv())["error"]
        await connection.wait_closed()
        if (error["code"], connection.close_code) != ("too_many_sessions", 1013):
            raise RuntimeError(f"{error}, closed with {connection.close_code}")
        return error["message"]


async def memory(server: psutil.Process, seconds: float) -> list[int]:
    """Measure the server's memory at equal distances, in MiB."""
    found = []
    for _ in range(int(seconds / MEMORY_SECONDS)):
        await asyncio.sleep(MEMORY_SECONDS)
        found.append(server.memory_info().rss >> 20)
    return found


async def measure(seconds: float) -> dict[str, Any]:
    """Ask at once, and compare."""
    asked = questions()
    service = load_service(device="cpu")
    expected = [await alone(service, asking) for asking in asked]
    del service
    counts = Counts()
    async with served(free_port()) as (url, server):
        sessions = [
            asyncio.create_task(keep_asking(url, number, asked[number], expected[number], counts))
            for number in range(SESSIONS)
        ]
        watching = asyncio.create_task(memory(psutil.Process(server), seconds))
        await asyncio.sleep(3)
        refusal = await one_too_many(url)
        await asyncio.wait({watching, *sessions}, return_when=asyncio.FIRST_COMPLETED)
        for session in sessions:
            if session.done():
                session.result()  # raises what ended it
            session.cancel()
        used = await watching
    return {
        "sessions": SESSIONS,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "different_answers": len(set(expected)),
        "answers": sum(counts.answers.values()),
        "answers_of_the_slowest_session": min(counts.answers.values()),
        "wrong": counts.wrong,
        "seconds_per_answer": {
            "median": round(statistics.median(counts.seconds), 1),
            "longest": round(max(counts.seconds), 1),
        },
        "refused_responses": len(counts.refused),
        "messages": sorted({re.sub(r"in about \d+ s", "in about ... s", line) for line in (refusal, *counts.refused)}),
        f"memory_mib_every_{MEMORY_SECONDS:g}_s": used,
    }


if __name__ == "__main__":
    report(measure, __doc__, "seconds", 180.0)
