"""A client of `/v1/realtime` for tests, and a detector of speech that goes by loudness."""

import asyncio
import base64
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

RATE = 24000
MANUAL = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def tone(seconds: float, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * 32767 * np.sin(np.arange(int(RATE * seconds)) / 12)).astype("<i2")


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(RATE * seconds), "<i2")


def as_base64(samples: np.ndarray) -> str:
    return base64.b64encode(samples.astype("<i2").tobytes()).decode()


def loudness(samples: np.ndarray, memory: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Replace Silero: a window is speech if it is loud."""
    return [float(np.abs(window).max() > 0.05) for window in samples.reshape(-1, 512)], memory


def run(talk: Coroutine[Any, Any, Any]) -> Any:
    """Run what a test does in an event loop. Waiting for what never comes, as for a lock that is never free, fails."""
    return asyncio.run(asyncio.wait_for(talk, 60))


class RealtimeClient:
    """One session."""

    def __init__(self, websocket: Any):
        self.websocket = websocket
        self.events: list[dict[str, Any]] = []

    def send(self, kind: str, **fields: Any) -> None:
        self.websocket.send_json({"type": kind, **fields})

    def speak(self, samples: np.ndarray, piece: float = 0.1) -> None:
        count = int(RATE * piece)
        for start in range(0, len(samples), count):
            self.send("input_audio_buffer.append", audio=as_base64(samples[start : start + count]))

    def write(self, text: str, **fields: Any) -> dict[str, Any]:
        content = [{"type": "input_text", "text": text}]
        self.send("conversation.item.create", item={"type": "message", "role": "user", "content": content}, **fields)
        return self.until("conversation.item.done")["item"]

    def next(self) -> dict[str, Any]:
        event = self.websocket.receive_json()
        self.events.append(event)
        return event

    def until(self, kind: str) -> dict[str, Any]:
        """Read events up to one of a kind; an error that was not waited for fails the test."""
        while True:
            event = self.next()
            if event["type"] == kind:
                return event
            assert event["type"] != "error", event

    def kinds(self) -> list[str]:
        """The kinds of the events so far, repeated ones once; then begin anew."""
        kinds = [event["type"] for event in self.events]
        self.events = []
        return [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]


@contextmanager
def connected(service: Any, limits: Any = None, query: str = "", **options: Any) -> Iterator[RealtimeClient]:
    """A client whose session has begun."""
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from spaces_demo.realtime.routes import realtime_router

    app = FastAPI()
    app.include_router(realtime_router(service, "nano", limits))
    with TestClient(app) as http, http.websocket_connect(f"/v1/realtime{query}", **options) as websocket:
        client = RealtimeClient(websocket)
        client.http = http
        yield client
