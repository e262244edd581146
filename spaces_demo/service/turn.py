"""
One turn: a question that was checked, and what is known of its reply so far.

Depends on requests and limits. Independent of the model, the queue and threads.
"""

import time
from dataclasses import dataclass, field

import numpy as np

from processing_ttt import TttProcessor, TttReply, TttTranscript

from .limits import Limits
from .request import CheckedTurn, TalkRequest
from .summary import ReplySummary, segments_of
from .uploads import AudioInput


@dataclass
class Progress:
    """
    What the generating thread and the consumer of a reply note down; times are those of `time.monotonic`.

    Args:
        asked_at (`float`): When the question came.
        begun_at (`float`, *optional*): When its turn came; `None` while it waits.
        ended_at (`float`, *optional*): When the generating thread was done.
        first_audio_at (`float`, *optional*): When the consumer got the first audio.
        is_late (`bool`): Whether the reply was stopped because it took longer than the limit.
        reply ([`TttReply`], *optional*): The reply, once `generate` has returned.
        num_forwards (`int`): Forward passes of the model.
        num_prompt_ids (`int`): Token ids of the prompt.
        text_log_prob (`float`, *optional*): Of a transcript, the mean log-probability of its token ids, in nats.
        transcript ([`TttTranscript`], *optional*): The reply to a recording, once `generate` has returned.
    """

    asked_at: float = field(default_factory=time.monotonic)
    begun_at: float | None = None
    ended_at: float | None = None
    first_audio_at: float | None = None
    is_late: bool = False
    reply: TttReply | None = None
    num_forwards: int = 0
    num_prompt_ids: int = 0
    text_log_prob: float | None = None
    transcript: TttTranscript | None = None


@dataclass(frozen=True)
class Turn:
    """
    A checked question on its way to its reply.

    It holds no streamer: the generating thread keeps the turn, and must not keep alive what its consumer has dropped.

    Args:
        request ([`TalkRequest`]): As it came.
        text (`str`, *optional*): Its text, checked and without space around it.
        audio (`AudioInput`, *optional*): Its audio, checked and not decoded yet.
        time_limit (`float`): Most seconds from its turn to the end of the reply.
        history (`tuple[CheckedTurn, ...]`): The turns before, checked in the same way.
        progress ([`Progress`]): What is known of the reply.
    """

    request: TalkRequest
    text: str | None
    audio: AudioInput | None
    time_limit: float
    history: tuple[CheckedTurn, ...] = ()
    progress: Progress = field(default_factory=Progress)

    @classmethod
    def of(cls, request: TalkRequest, limits: Limits) -> "Turn":
        """
        Check a request.

        Args:
            request ([`TalkRequest`]): What is asked.
            limits ([`Limits`]): Limits of the service.

        Returns:
            [`Turn`].

        Raises:
            RequestError: If the request cannot be answered.
        """
        text, audio = request.checked_question(limits)
        history = tuple(turn.checked(limits) for turn in request.history)
        return cls(request, text, audio, limits.seconds_per_request, history)

    def summary(self, token_ids: list[int], processor: TttProcessor) -> ReplySummary | None:
        """
        Sum up the reply; one that was stopped, as far as it came.

        Args:
            token_ids (`list[int]`): Token ids of the reply.
            processor ([`TttProcessor`]): Processor of the model.

        Returns:
            [`ReplySummary`] or `None`: Nothing if the turn never came.
        """
        progress = self.progress
        if progress.begun_at is None:
            return None
        rate = processor.codec_config.output_sampling_rate
        reply = progress.reply or TttReply("", np.zeros(0, dtype=np.float32), rate, finished=False)
        first = progress.first_audio_at
        return ReplySummary(
            text=reply.text,
            audio=reply.audio,
            sampling_rate=rate,
            finished=reply.finished,
            token_ids=token_ids,
            segments=segments_of(token_ids, processor),
            num_forwards=progress.num_forwards,
            num_prompt_ids=progress.num_prompt_ids,
            transcript=progress.transcript,
            seconds_waited=progress.begun_at - progress.asked_at,
            seconds=(progress.ended_at or time.monotonic()) - progress.begun_at,
            seconds_to_first_audio=None if first is None else first - progress.begun_at,
            text_log_prob=progress.text_log_prob,
            timings=reply.timings,
        )
