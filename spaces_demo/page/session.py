"""
One person's conversation with a talker, as a page shows it: what was asked, what came back so far, and what can be
done about it.

Knows the service, sound files in a folder of its own, and the clock. Knows no Gradio.
"""

import base64
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from processing_ttt import TttAudioChunk, TttConversation

from ..service import DecodingOptions, DemoError, ReplySummary, SoundFile, TalkRequest, TalkService, TalkStream
from ..service.audio_formats import pcm16
from .reply_trace import ReplyTrace

DRAW_EVERY = 0.15  # seconds between pictures of a block; sound is passed on at once


@dataclass(frozen=True)
class Question:
    """
    What a person asks, and how it is to be answered.

    Args:
        task (`str`): `chat`, `asr` or `tts`.
        text (`str`, *optional*): What they wrote.
        sound ([`SoundFile`], *optional*): What they said or uploaded.
        options ([`DecodingOptions`]): How to decode.
        adapter (`str`, *optional*): Which of the service's adapters answers.
    """

    task: str = "chat"
    text: str | None = None
    sound: SoundFile | None = None
    options: DecodingOptions = field(default_factory=DecodingOptions)
    adapter: str | None = None


@dataclass
class Exchange:
    """
    A question and its reply.

    Args:
        question ([`Question`]): What was asked.
        trace ([`ReplyTrace`]): The reply as far as it came.
        question_file (`Path`, *optional*): The question's sound.
        heard (`str`, *optional*): What the model understood of that sound.
        reply_file (`Path`, *optional*): The reply's sound, when it is whole.
        summary ([`ReplySummary`], *optional*): What the reply was, when it is over.
        error (`str`, *optional*): Why there is no more of it.
        chunks (`list[str]`): The reply's sound so far, 16 bits in base64, as the player takes it.
        is_over (`bool`): Whether no more will come.
    """

    question: Question
    trace: ReplyTrace
    question_file: Path | None = None
    heard: str | None = None
    reply_file: Path | None = None
    summary: ReplySummary | None = None
    error: str | None = None
    chunks: list[str] = field(default_factory=list)
    is_over: bool = False
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    turns_before: int = 0


class Session:
    """
    A person's visit.

    Args:
        service ([`TalkService`]): Answers.
        user (`str`, *optional*): Who is asking, for the service's bound per user.

    Attributes:
        exchanges (`list[Exchange]`): Oldest first.
    """

    def __init__(self, service: TalkService, user: str | None = None):
        self.service = service
        self.user = user
        self._folder = tempfile.TemporaryDirectory(prefix="ttt-talk-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.exchanges: list[Exchange] = []
        self.conversation: TttConversation = service.conversation()
        self._stream: TalkStream | None = None
        self._taken_back: tuple[Exchange, TttConversation] | None = None

    def ask(self, question: Question) -> Iterator[Exchange]:
        """
        Ask, and follow the reply.

        Args:
            question ([`Question`]): What is asked.

        Yields:
            [`Exchange`]: Always the same one, whenever there is more to show, and at the end.

        Raises:
            DemoError: If the question is refused; it then leaves no trace, and what was taken back for it is there
            again. What goes wrong later is
                the exchange's `error`.
        """
        vocabulary, codec = self.service.processor.vocabulary, self.service.processor.codec_config
        exchange = Exchange(question, ReplyTrace(vocabulary.is_code, codec.frame_rate))
        exchange.turns_before = len(self.conversation.turns)
        try:
            stream = self.service.stream(self._request(question), drafts=True)
        except DemoError:
            self._put_back()
            raise
        self._stream, self._taken_back = stream, None
        self.exchanges.append(exchange)
        self._keep_question(exchange)
        try:
            with stream:
                yield exchange
                yield from self._follow(stream, exchange)
        except DemoError as error:
            exchange.error = str(error)
        finally:  # also when the page is closed
            self._conclude(stream, exchange)
        yield exchange
        if question.task == "chat" and question.sound is not None and exchange.summary and exchange.summary.finished:
            yield from self._write_down(exchange)

    def recall(self, remembered: Exchange, conversation: TttConversation) -> Exchange:
        """
        Go on from where another session came to.

        Args:
            remembered ([`Exchange`]): Its only exchange.
            conversation ([`TttConversation`]): What the model knows of it, for this session alone.

        Returns:
            [`Exchange`]: This session's own.
        """
        self.conversation, self._taken_back = conversation, None
        exchange = replace(remembered, name=uuid.uuid4().hex)
        self.exchanges = [exchange]
        self._keep_question(exchange)
        self._keep_reply(exchange)
        return exchange

    def stop(self) -> None:
        """Stop the reply that is coming, if one is: `ask` then ends with what there is."""
        if self._stream is not None:
            self._stream.cancel()

    def take_back(self) -> Question | None:
        """
        Forget the last exchange, to ask its question again. Should that be refused, it is remembered.

        Returns:
            [`Question`] or `None`: What was asked.
        """
        if not self.exchanges or self._stream is not None:
            return None
        exchange = self.exchanges.pop()
        self._taken_back = exchange, self.conversation
        self.conversation = self.conversation.fork()
        self.conversation.rewind(len(self.conversation.turns) - exchange.turns_before)
        return exchange.question

    def _put_back(self) -> None:
        """Undo `take_back`."""
        if self._taken_back is not None:
            exchange, self.conversation = self._taken_back
            self.exchanges.append(exchange)
            self._taken_back = None

    def clear(self, service: TalkService | None = None) -> None:
        """Begin anew, with another service if there is one."""
        self.stop()
        self.service = service or self.service
        self.conversation, self._taken_back = self.service.conversation(), None
        self.exchanges = []
        for file in self.folder.iterdir():
            file.unlink()

    def close(self) -> None:
        """End the visit: nothing of it stays."""
        self.stop()
        self._folder.cleanup()

    def _request(self, question: Question, task: str | None = None) -> TalkRequest:
        task = task or question.task
        return TalkRequest(
            task=task,
            text=question.text if task == question.task else None,
            audio=question.sound,
            conversation=self.conversation if task == "chat" else None,
            options=question.options,
            adapter=question.adapter,
            user=self.user,
        )

    def _follow(self, stream: TalkStream, exchange: Exchange) -> Iterator[Exchange]:
        shown_at = 0.0
        for event in stream:
            if isinstance(event, ReplySummary):
                break
            now = time.monotonic()
            exchange.trace.take(event, now - (stream.progress.begun_at or now))
            if isinstance(event, TttAudioChunk):
                exchange.chunks.append(base64.b64encode(pcm16(event.audio)).decode())
            if isinstance(event, TttAudioChunk) or now - shown_at >= DRAW_EVERY:
                shown_at = now
                yield exchange

    def _conclude(self, stream: TalkStream, exchange: Exchange) -> None:
        if self._stream is stream:  # another one may have begun since, after `clear`
            self._stream = None
        exchange.is_over, exchange.summary = True, stream.summary
        if any(exchange is one for one in self.exchanges):
            self._keep_reply(exchange)

    def _keep_question(self, exchange: Exchange) -> None:
        sound = exchange.question.sound
        if sound is not None:
            exchange.question_file = self.folder / f"question-{exchange.name}{Path(sound.name).suffix}"
            exchange.question_file.write_bytes(sound.data)

    def _keep_reply(self, exchange: Exchange) -> None:
        audio = exchange.trace.audio
        if len(audio) and self.folder.is_dir():
            exchange.reply_file = self.folder / f"reply-{exchange.name}.wav"
            samples = np.frombuffer(
                pcm16(audio), "<i2"
            )  # rounded as they were for the player: what is saved is what was heard
            soundfile.write(exchange.reply_file, samples, exchange.trace.sampling_rate)

    def _write_down(self, exchange: Exchange) -> Iterator[Exchange]:
        """Ask what the question's sound was, after the reply, which it must not delay."""
        try:
            exchange.heard = self.service.reply(self._request(exchange.question, task="asr")).text.strip() or None
        except DemoError:  # busy: the transcript shows the sound alone
            return
        yield exchange


def player_value(exchange: Exchange | None) -> dict[str, Any]:
    """
    Say what the player in the browser should be playing.

    Args:
        exchange ([`Exchange`], *optional*): Whose reply; none silences it.

    Returns:
        `dict`: A state, of its own: Gradio sends what differs from the last one.
    """
    if exchange is None:
        return {"reply": uuid.uuid4().hex, "rate": 0, "chunks": [], "done": True}
    return {
        "reply": exchange.name,
        "rate": exchange.trace.sampling_rate,
        "chunks": list(exchange.chunks),
        "done": exchange.is_over,
    }
