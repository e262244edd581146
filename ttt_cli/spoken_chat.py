"""
A spoken conversation: what the events of a realtime session do to a loudspeaker, a terminal and files.

    connection ── deltas of text and audio, in the order in which they are meant ──► queue ──► terminal, loudspeaker
        ▲                                                                              │
        └── conversation.item.truncate, with what was played ◄── the user speaks ──────┘ the rest is dropped

Text is shown when the audio before it has been played. When a turn begins and ends is decided by the session.

Depends on a connection and perhaps a player. Independent of the model and of where questions come from.
"""

import asyncio
import base64
import json
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import typer

from .playback import Player
from .realtime import Connection, Event

RATE = 24_000  # Hz, of the protocol's audio
PIECE = RATE // 20  # samples that the loudspeaker takes at once
CANCELLED_TOO_LATE = "response_cancel_not_active"  # the code of an error: the response had just ended
TEXT_DELTAS = ("response.output_audio_transcript.delta", "response.output_text.delta")


@dataclass
class Reply:
    """
    A reply, as far as it was shown and played.

    Args:
        question (`str`, *optional*): What was asked: a text, or the name of a file; `None` if it was spoken.
        item_id (`str`, *optional*): Name of its message.
        text (`str`): What was shown.
        pieces (`list[np.ndarray]`): What was played, int16.
        has_audio (`bool`): Whether audio of it has come.
        interrupted (`bool`): Whether the user interrupted it.
        error (`str`, *optional*): Why there is none.
        is_taken (`asyncio.Event`): Set when the question is a message of the conversation, or refused.
        is_received (`asyncio.Event`): Set when all of it has come.
        is_over (`asyncio.Event`): Set when it has been played, or interrupted.
    """

    question: str | None = None
    item_id: str | None = None
    text: str = ""
    pieces: list[np.ndarray] = field(default_factory=list)
    has_audio: bool = False
    interrupted: bool = False
    error: str | None = None
    is_taken: asyncio.Event = field(default_factory=asyncio.Event)
    is_received: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def seconds(self) -> float:
        """Of audio that the loudspeaker took."""
        return sum(map(len, self.pieces)) / RATE


class SpokenChat:
    """
    Asks, listens and is interrupted.

    Args:
        connection ([`Connection`]): The session.
        player ([`Player`], *optional*): The loudspeaker.
        out_dir (`Path`, *optional*): Folder of the replies' audio, `1.wav`, `2.wav`, ...
        as_json (`bool`): Whether each reply is a line of JSON, when it is over.
    """

    def __init__(
        self, connection: Connection, player: Player | None = None, out_dir: Path | None = None, as_json: bool = False
    ):
        self.connection = connection
        self.player = player
        self.out_dir = out_dir
        self.as_json = as_json
        self.num_replies = 0
        self.has_failed = False
        self._device = asyncio.Lock()  # one thread at a time
        self._asked: Reply | None = None  # whose response has not begun
        self._received: Reply | None = None  # whose response is in progress
        self._reply: Reply | None = None  # the one that is shown and played, or will be
        self._queue: asyncio.Queue[tuple[Reply, str | np.ndarray | None]] = asyncio.Queue()

    # Questions

    async def ask(self, question: str | Path) -> Reply:
        """
        Ask, and wait until the reply is over.

        Args:
            question (`str` or `Path`): A text, or an audio file.

        Returns:
            [`Reply`].
        """
        await self.interrupt()
        self._asked = reply = Reply(str(question))
        try:
            part = await asyncio.to_thread(_content, question)
        except ValueError as error:  # a file that is no audio
            self._refused(str(error))
            return reply
        item = {"type": "message", "role": "user", "content": [part]}
        await self.connection.send("conversation.item.create", item=item)
        await reply.is_taken.wait()
        if reply.error is None:
            await self.connection.send("response.create")
        await reply.is_over.wait()
        return reply

    async def listen(self, blocks: "asyncio.Queue[bytes]", interrupts: bool = True) -> None:
        """
        Send the microphone's audio, until the task is cancelled.

        Args:
            blocks (`asyncio.Queue[bytes]`): 16-bit samples.
            interrupts (`bool`, defaults to `True`): Whether the user may interrupt; otherwise silence is sent while a
                reply is played, for loudspeakers whose audio reaches the microphone.
        """
        while True:
            block = await blocks.get()
            if not interrupts and self._reply is not None:
                block = bytes(len(block))
            await self.connection.send("input_audio_buffer.append", audio=base64.b64encode(block).decode())

    async def interrupt(self) -> None:
        """Stop the reply in progress, wherever it is; what was not played is taken out of the conversation."""
        reply = self._reply
        if reply is None:
            return
        played = await self._stop(reply)
        if not reply.is_received.is_set():
            await self.connection.send("response.cancel")
            await reply.is_received.wait()
        await self._truncate(reply, played)

    # Events

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """
        Show and play what comes, until `work` is done.

        Args:
            work (`Coroutine`): Asks, or listens.

        Raises:
            RuntimeError: If the server ends the session.
        """
        tasks = [asyncio.create_task(one) for one in (work, self._follow(), self._play())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        async for event in self.connection:
            await self._take(event)

    async def _take(self, event: Event) -> None:
        kind, reply, audible = event["type"], self._received, self._reply
        if kind == "error":
            if event["error"]["code"] != CANCELLED_TOO_LATE:
                self._refused(event["error"]["message"])
        elif kind == "input_audio_buffer.speech_started":
            if audible is not None:
                await self._truncate(audible, await self._stop(audible))
        elif kind == "conversation.item.added" and self._asked is not None:
            omitted = sum(part.get("omitted_characters", 0) for part in event["item"].get("content", []))
            if omitted:
                typer.echo(f"Warning: the question is too long; its first {omitted} characters are left out.", err=True)
            self._asked.is_taken.set()
        elif kind == "response.created":
            self._received = self._reply = self._asked or Reply()
            self._asked = None
        elif reply is None:
            return
        elif kind == "response.output_item.added":
            reply.item_id = event["item"]["id"]
        elif kind in TEXT_DELTAS:
            self._queue.put_nowait((reply, event["delta"]))
        elif kind == "response.output_audio.delta":
            reply.has_audio = True
            self._queue.put_nowait((reply, np.frombuffer(base64.b64decode(event["delta"]), "<i2")))
        elif kind == "response.done":
            details = event["response"].get("status_details") or {}
            reply.error = (details.get("error") or {}).get("message")
            reply.is_received.set()
            self._received = None
            self._queue.put_nowait((reply, None))

    def _refused(self, message: str) -> None:
        self.has_failed = True
        typer.echo(f"Error: {message}", err=True)
        if self._asked is not None:
            refused, self._asked = self._asked, None
            refused.error = message
            for event in (refused.is_taken, refused.is_received, refused.is_over):
                event.set()

    # Playing

    async def _play(self) -> None:
        while True:
            reply, part = await self._queue.get()
            if reply.interrupted:
                continue
            if part is None:
                if self.player is not None and reply.pieces:
                    await asyncio.sleep(self.player.latency)
                self._conclude(reply)
            elif isinstance(part, str):
                reply.text += part
                self._show(part)
            else:
                await self._play_audio(reply, part)

    async def _play_audio(self, reply: Reply, samples: np.ndarray) -> None:
        for start in range(0, len(samples), PIECE):
            if reply.interrupted:
                return
            piece = samples[start : start + PIECE]
            reply.pieces.append(piece)
            if self.player is not None:
                async with self._device:
                    await asyncio.to_thread(self.player.write, piece.astype(np.float32) / 32768)

    async def _stop(self, reply: Reply) -> float:
        """End a reply here; returns how many seconds of it were audible."""
        reply.interrupted = True
        played = reply.seconds
        if self.player is not None:
            async with self._device:  # after the piece that is being written
                await asyncio.to_thread(self.player.drop)
            played = max(0.0, reply.seconds - self.player.latency)
        self._conclude(reply)
        return played

    async def _truncate(self, reply: Reply, played: float) -> None:
        if reply.item_id is not None and reply.has_audio:
            place: dict[str, Any] = {"item_id": reply.item_id, "content_index": 0}
            await self.connection.send("conversation.item.truncate", **place, audio_end_ms=int(1000 * played))

    def _show(self, text: str) -> None:
        if not self.as_json:
            typer.echo(text, nl=False)

    def _conclude(self, reply: Reply) -> None:
        """Show and write what there is of a reply."""
        if reply.is_over.is_set():
            return
        if reply is self._reply:
            self._reply = None
        file = self._written(reply)
        if reply.error is not None:
            self.has_failed = True
            typer.echo(f"Error: {reply.error}", err=True)
        elif self.as_json:
            audio = None if file is None else str(file)
            shown: dict[str, Any] = {"question": reply.question, "text": reply.text, "audio": audio}
            shown |= {"seconds": round(reply.seconds, 3), "interrupted": reply.interrupted}
            typer.echo(json.dumps(shown, ensure_ascii=False))
        else:
            typer.echo(" ..." if reply.interrupted else "")
        reply.is_over.set()

    def _written(self, reply: Reply) -> Path | None:
        if self.out_dir is None or not reply.pieces:
            return None
        import soundfile

        self.num_replies += 1
        self.out_dir.mkdir(parents=True, exist_ok=True)
        file = self.out_dir / f"{self.num_replies}.wav"
        soundfile.write(file, np.concatenate(reply.pieces), RATE)
        return file


def _content(question: str | Path) -> dict[str, str]:
    """Write a question as a part of a message; reads its file."""
    if isinstance(question, str):
        return {"type": "input_text", "text": question}
    from processing_ttt import load_audio

    samples = np.clip(np.round(load_audio(question, RATE) * 32767), -32768, 32767).astype("<i2")
    return {"type": "input_audio", "audio": base64.b64encode(samples.tobytes()).decode()}
