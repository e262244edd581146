"""
One person's visit, as the page shows it: the turns so far, and what can be done with them.

Depends on the service, audio files in a folder of its own, and the clock. Independent of Gradio.
"""

import tempfile
import threading
import time
import uuid
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
import soundfile
from typing_extensions import NotRequired

from processing_ttt import TttAudioChunk, TttConversation
from processing_ttt.audio_speed_ttt import SpeedChanger, change_speed

from ..service import AudioFile, DecodingOptions, ReplySummary, RequestError, TalkRequest, TalkService, TalkStream
from ..service.audio_formats import pcm16, pcm16_base64
from ..service.request import MAX_SEED
from .reply_trace import ReplyTrace

# The least mean log-probability of a transcript that is shown, in nats. Of 120 recordings of two voices that nano
# was not trained on, 59 % have such a transcript, with a word error rate of 4 % (all of them: 20 %). Nano answers right
# more often than it transcribes right: a poor transcript would look like a misunderstanding where there was none.
SHOWN_TRANSCRIPT_LOG_PROB = -0.05
RETRY_TEMPERATURE = 1.0  # of words and voice, where a retry has none: draws by the model's own probabilities
SECONDS_TO_STOP = 5.0  # of waiting for a reply that was stopped: it takes a forward pass
DRAW_EVERY = 0.15  # seconds between pictures of a block; audio is passed on at once


@dataclass(eq=False)
class ShownTurn:
    """
    A question and its reply, as far as it has come.

    Args:
        request ([`TalkRequest`]): The question, without the session's conversation and user.
        trace ([`ReplyTrace`]): The events of the reply.
        turns_before (`int`): Turns of the conversation before this one.
        question_file (`Path`, *optional*): The question's audio.
        transcript (`str`, *optional*): The model's transcript of that audio, where it is probable.
        reply_file (`Path`, *optional*): The reply's audio, when it is complete.
        summary ([`ReplySummary`], *optional*): The whole reply, when it is over.
        error (`str`, *optional*): Why the reply ended early.
        retries (`int`): How often the same request was asked before.
        chunks (`list[str]`): The reply's audio so far, 16-bit samples in base64, as the player takes it.
        is_over (`bool`): Whether the reply has ended.
        name (`str`): Distinguishes this turn from all others, for the player and for file names.
        first_audio (`float`, *optional*): Seconds from the end of the speaker's question to the first audio that the
            browser played; `None` for a question that was not spoken into the microphone.
        is_certain (`bool`): Whether the question is over: if its speaker only pauses, it is withdrawn again, and not
            shown before.
        has_stopped (`threading.Event`): Set when the reply has ended, and is part of the conversation.
    """

    request: TalkRequest
    trace: ReplyTrace
    turns_before: int = 0
    question_file: Path | None = None
    transcript: str | None = None
    reply_file: Path | None = None
    summary: ReplySummary | None = None
    error: str | None = None
    retries: int = 0
    chunks: list[str] = field(default_factory=list)
    is_over: bool = False
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    first_audio: float | None = None
    is_certain: bool = True
    has_stopped: threading.Event = field(default_factory=threading.Event)


class Session:
    """
    A person's visit.

    Args:
        service ([`TalkService`]): Answers.
        user (`str`, *optional*): Who asks, for the service's limit per user.

    Attributes:
        turns (`list[ShownTurn]`): Oldest first.
    """

    def __init__(self, service: TalkService, user: str | None = None):
        self.service = service
        self.user = user
        self._folder = tempfile.TemporaryDirectory(prefix="ttt-talk-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.turns: list[ShownTurn] = []
        self.conversation: TttConversation = service.conversation()
        self._stream: TalkStream | None = None
        self._taken_back: tuple[ShownTurn, TttConversation] | None = None
        self._cutting = threading.Lock()

    def ask(self, request: TalkRequest, name: str | None = None) -> Generator[ShownTurn]:
        """
        Ask, and follow the reply.

        Args:
            request ([`TalkRequest`]): What is asked; the session adds its conversation and its user.
            name (`str`, *optional*): Name of the turn, where the browser chose one: its question may be withdrawn
                until it is confirmed.

        Yields:
            [`ShownTurn`]: Always the same one, whenever there is more to show, and at the end.

        Raises:
            RequestError: If the question is refused; the session is then as it was, and a turn that was taken back for
                the question is there again. A later error is the turn's `error`.
        """
        if name is not None and self.turns and not self.turns[-1].is_certain:
            self.withdraw(self.turns[-1].name)  # its speaker went on, which the page may not have reported yet
        before = self._taken_back[0] if self._taken_back else None
        retries = before.retries + 1 if before and before.request == request else 0
        vocabulary, codec = self.service.processor.vocabulary, self.service.processor.codec_config
        trace = ReplyTrace(vocabulary.is_code, codec.frame_rate, request.speed)
        turn = ShownTurn(request, trace, turns_before=len(self.conversation.turns), retries=retries)
        if name is not None:
            turn.name, turn.is_certain = name, False
        asked = replace(
            request,
            conversation=self.conversation if request.task == "chat" else None,
            options=varied(request.options, retries),
            user=self.user,
        )
        try:
            stream = self.service.stream(asked, drafts=True)
        except RequestError:
            self._put_back()
            raise
        self._stream, self._taken_back = stream, None
        self.turns.append(turn)
        self._keep_question(turn)
        try:
            with stream:
                yield turn
                yield from self._follow(stream, turn)
        except RequestError as error:
            turn.error = str(error)
        finally:  # also when the page is closed
            self._conclude(stream, turn)
        yield turn
        is_whole = turn in self.turns and turn.summary is not None and turn.summary.finished
        if request.task == "chat" and request.audio is not None and is_whole:
            yield from self._transcribe(turn)

    def recall(self, remembered: ShownTurn, conversation: TttConversation) -> ShownTurn:
        """
        Continue from the first turn of another session.

        Args:
            remembered ([`ShownTurn`]): That session's only turn.
            conversation ([`TttConversation`]): The conversation with this turn, for this session alone.

        Returns:
            [`ShownTurn`]: This session's own.
        """
        self.conversation, self._taken_back = conversation, None
        turn = replace(remembered, name=uuid.uuid4().hex)
        turn.reply_file = None  # that of the other session stays
        self.turns = [turn]
        self._keep_question(turn)
        self._keep_reply(turn)
        return turn

    @property
    def is_retrying(self) -> bool:
        """Whether the last turn was taken back, and its question is about to be asked again."""
        return self._taken_back is not None

    def stop(self) -> None:
        """Stop the reply in progress, if there is one: `ask` then ends with what there is."""
        if self._stream is not None:
            self._stream.cancel()

    def interrupt(self, name: str, seconds: float) -> bool:
        """
        Stop the last reply where its listener interrupted it: words and audio behind the span that was played last
        leave the page and the conversation.

        Args:
            name (`str`): Name of the turn.
            seconds (`float`): How much of the reply's audio was played.

        Returns:
            `bool`: Whether there is such a turn.
        """
        with self._cutting:
            turn = self._stopped(name)
            if turn is not None:
                turn.is_certain = True
            if turn is not None and turn.request.task == "chat":
                turn.trace = turn.trace.until(seconds)
                turn.summary = turn.summary and replace(turn.summary, finished=False)
                if len(self.conversation.turns) > turn.turns_before:
                    self.conversation.truncate(seconds)
                self._keep_reply(turn)
            return turn is not None

    def confirm(self, name: str) -> bool:
        """
        Show a question, and its reply: it will not be withdrawn.

        Args:
            name (`str`): Name of the turn.

        Returns:
            `bool`: Whether there is such a turn.
        """
        named = [turn for turn in self.turns if turn.name == name]
        for turn in named:
            turn.is_certain = True
        return bool(named)

    def withdraw(self, name: str) -> bool:
        """
        Take back a question whose speaker goes on: as if it had not been asked.

        Args:
            name (`str`): Name of the turn.

        Returns:
            `bool`: Whether there was such a turn.
        """
        with self._cutting:
            turn = self._stopped(name)
            if turn is not None:
                self.turns.remove(turn)
                self.conversation.rewind(len(self.conversation.turns) - turn.turns_before)
            return turn is not None

    def _stopped(self, name: str) -> ShownTurn | None:
        """Stop the last turn if it has this name, and return it."""
        turn = self.turns[-1] if self.turns else None
        if turn is None or turn.name != name:
            return None
        if not turn.is_over:
            self.stop()
        return turn if turn.has_stopped.wait(SECONDS_TO_STOP) else None

    def take_back(self) -> TalkRequest | None:
        """
        Forget the last turn, to ask its question again. Should that be refused, the turn is restored.

        Returns:
            [`TalkRequest`] or `None`: What was asked.
        """
        if not self.turns or self._stream is not None:
            return None
        turn = self.turns.pop()
        self._taken_back = turn, self.conversation
        self.conversation = self.conversation.fork()
        self.conversation.rewind(len(self.conversation.turns) - turn.turns_before)
        return turn.request

    def clear(self, service: TalkService | None = None) -> None:
        """Begin anew, with another service if there is one."""
        self.stop()
        self.service = service or self.service
        self.conversation, self._taken_back = self.service.conversation(), None
        self.turns = []
        for file in self.folder.iterdir():
            file.unlink()

    def close(self) -> None:
        """End the visit, and delete its files."""
        self.stop()
        self._folder.cleanup()

    def _put_back(self) -> None:
        """Undo `take_back`."""
        if self._taken_back is not None:
            turn, self.conversation = self._taken_back
            self.turns.append(turn)
            self._taken_back = None

    def _follow(self, stream: TalkStream, turn: ShownTurn) -> Iterator[ShownTurn]:
        shown_at = 0.0
        changer = SpeedChanger(turn.trace.speed, self.service.processor.codec_config.output_sampling_rate)
        for event in stream:
            if isinstance(event, ReplySummary):
                break
            now = time.monotonic()
            turn.trace.take(event, now - (stream.turn.progress.begun_at or now))
            if isinstance(event, TttAudioChunk):
                turn.chunks.append(pcm16_base64(changer.push(event.audio)))
            if isinstance(event, TttAudioChunk) or now - shown_at >= DRAW_EVERY:
                shown_at = now
                yield turn
        if len(rest := changer.finish()):
            turn.chunks.append(pcm16_base64(rest))

    def _conclude(self, stream: TalkStream, turn: ShownTurn) -> None:
        if self._stream is stream:  # after `clear`, another one may have begun
            self._stream = None
        turn.is_over, turn.summary = True, stream.summary
        if turn in self.turns:
            self._keep_reply(turn)
        turn.has_stopped.set()

    def _keep_question(self, turn: ShownTurn) -> None:
        audio = turn.request.audio
        if isinstance(audio, AudioFile):
            turn.question_file = self.folder / f"question-{turn.name}{Path(audio.name).suffix}"
            turn.question_file.write_bytes(audio.data)

    def _keep_reply(self, turn: ShownTurn) -> None:
        audio, rate = turn.trace.audio, turn.trace.sampling_rate
        if turn.reply_file is not None:  # of the whole reply, which was interrupted
            turn.reply_file.unlink(missing_ok=True)
            turn.reply_file = None
        if len(audio) and self.folder.is_dir():
            turn.reply_file = self.folder / f"reply-{turn.name}-{len(audio)}.wav"
            played = pcm16(change_speed(audio, turn.trace.speed, rate))  # rounded as for the player: the same samples
            soundfile.write(turn.reply_file, np.frombuffer(played, "<i2"), rate)

    def _transcribe(self, turn: ShownTurn) -> Iterator[ShownTurn]:
        """Transcribe the question's audio, after the reply, which it must not delay; a poor transcript is not shown."""
        if getattr(self.service.model, "is_borrowed", False):
            return
        options = replace(turn.request.options, temperature=0.0)
        request = replace(turn.request, task="asr", text=None, user=self.user, options=options)
        try:
            transcript = self.service.reply(request)
        except RequestError:  # busy: the page shows the audio without a transcript
            return
        log_prob = transcript.text_log_prob
        if log_prob is not None and log_prob >= SHOWN_TRANSCRIPT_LOG_PROB:
            turn.transcript = transcript.text.strip() or None
            yield turn


def varied(options: DecodingOptions, retries: int) -> DecodingOptions:
    """
    Choose how a question that is asked again is decoded: by sampling, with another seed each time.

    Args:
        options ([`DecodingOptions`]): As chosen.
        retries (`int`): How often it was asked before; 0 changes nothing.

    Returns:
        [`DecodingOptions`].
    """
    if not retries:
        return options
    return replace(
        options,
        temperature=options.temperature or RETRY_TEMPERATURE,
        audio_temperature=options.audio_temperature or RETRY_TEMPERATURE,
        seed=((options.seed or 0) + retries) % (MAX_SEED + 1),
    )


class PlayerValue(TypedDict):
    """
    What the player in the browser should be playing.

    Args:
        reply (`str`): Name of the turn.
        rate (`int`): Sampling rate of the audio, in Hz.
        speed (`float`): How fast it is: so many seconds of the reply pass in a second.
        chunks (`list[str]`): The audio so far, 16-bit samples in base64.
        done (`bool`): Whether the reply is complete.
        refused (`str`): Differs each time that a question was refused.
    """

    reply: str
    rate: int
    speed: float
    chunks: list[str]
    done: bool
    refused: NotRequired[str]


def player_value(turn: ShownTurn | None) -> PlayerValue:
    """
    Describe what the player in the browser should be playing.

    Args:
        turn ([`ShownTurn`], *optional*): Whose reply; `None` stops the player.

    Returns:
        [`PlayerValue`]: An object of its own each time: Gradio sends what differs from the last one.
    """
    if turn is None:
        return {"reply": uuid.uuid4().hex, "rate": 0, "speed": 1.0, "chunks": [], "done": True}
    return {
        "reply": turn.name,
        "rate": turn.trace.sampling_rate,
        "speed": turn.trace.speed,
        "chunks": list(turn.chunks),
        "done": turn.is_over,
    }
