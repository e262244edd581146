"""
Several whole replies from one `generate`: prompts of any length, padded on the left.

Depends on the service's model, processor and checks. Independent of the queue: the caller collects the requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from processing_ttt import TttReply, TttTalker
from processing_ttt.reading_ttt import TextReader
from processing_ttt.tasks_ttt import Message

from .limits import RequestError
from .request import TalkRequest
from .service import TalkService
from .turn import Turn


def answer_together(service: TalkService, requests: Sequence[TalkRequest]) -> list[TttReply | RequestError]:
    """
    Answer requests in one batch. Each reply is the one that its request gets alone.

    Args:
        service ([`TalkService`]): Gives model, processor and limits; a batch takes none of its slots, and at most the
            time of one request.
        requests (`Sequence[TalkRequest]`): Without conversation, adapter and options.

    Returns:
        `list`: A [`TttReply`] for each request, or a [`RequestError`] where it cannot be answered; the others are
        answered all the same.
    """
    questions = [_question(service, request) for request in requests]
    answerable = [question for question in questions if not isinstance(question, RequestError)]
    replies = iter(_replies(service, answerable) if answerable else ())
    return [question if isinstance(question, RequestError) else next(replies) for question in questions]


@dataclass(frozen=True)
class _Question:
    """A prompt, and the text that its reply must have, if it is to be read aloud."""

    messages: list[Message]
    given_text: str | None


def _question(service: TalkService, request: TalkRequest) -> _Question | RequestError:
    if request.conversation is not None or request.adapter is not None or request.options.generate_kwargs():
        return RequestError("A batch takes questions without conversation, adapter and options.")
    try:
        turn = Turn.of(request, replace(service.limits, recording_seconds=None))  # a recording is one piece here
        return _Question(service.messages(turn), turn.text if request.task == "tts" else None)
    except ValueError as error:  # refused, or audio that turns out to be unusable when it is decoded
        return error if isinstance(error, RequestError) else RequestError(str(error))


def _replies(service: TalkService, questions: Sequence[_Question]) -> Sequence[TttReply | RequestError]:
    """Reply to all; where `generate` refuses one, for example a prompt that is too long, each is answered alone."""
    try:
        return _replies_together(service, questions)
    except ValueError as error:
        if len(questions) == 1:
            return [RequestError(str(error))]
        return [reply for question in questions for reply in _replies(service, [question])]


def _replies_together(service: TalkService, questions: Sequence[_Question]) -> list[TttReply]:
    seconds = service.limits.seconds_per_request
    given = [question.given_text for question in questions if question.given_text is not None]
    asked = [question.messages for question in questions if question.given_text is None]
    read = iter(TextReader(service.model, service.processor, max_time=seconds).read(given))
    talker = TttTalker(service.model, service.processor, max_time=seconds)
    answered = iter(talker.reply_messages(asked) if asked else ())
    return [next(answered if question.given_text is None else read) for question in questions]
