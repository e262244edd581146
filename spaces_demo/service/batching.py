"""
Several whole replies from one `generate`: prompts of any length, padded on the left.

Depends on the service's model, processor and checks. Independent of the queue: the caller collects the requests.
"""

from collections.abc import Sequence
from typing import Any

from processing_ttt import TttReply, TttTalker

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
    questions = [_messages(service, request) for request in requests]
    answerable = [question for question in questions if not isinstance(question, RequestError)]
    replies = iter(_replies(service, answerable) if answerable else ())
    return [question if isinstance(question, RequestError) else next(replies) for question in questions]


def _messages(service: TalkService, request: TalkRequest) -> list[dict[str, Any]] | RequestError:
    if request.conversation is not None or request.adapter is not None or request.options.generate_kwargs():
        return RequestError("A batch takes questions without conversation, adapter and options.")
    try:
        return service.messages(Turn.of(request, service.limits))
    except ValueError as error:  # refused, or audio that turns out to be unusable when it is decoded
        return error if isinstance(error, RequestError) else RequestError(str(error))


def _replies(service: TalkService, prompts: list[list[dict[str, Any]]]) -> Sequence[TttReply | RequestError]:
    """Reply to all; where `generate` refuses one, for example a prompt that is too long, each is answered alone."""
    talker = TttTalker(service.model, service.processor, max_time=service.limits.seconds_per_request)
    try:
        return talker.reply_messages(prompts)
    except ValueError as error:
        if len(prompts) == 1:
            return [RequestError(str(error))]
        return [reply for prompt in prompts for reply in _replies(service, [prompt])]
