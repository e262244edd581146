"""
Several whole replies from one `generate`: prompts of any length, left-padded, in the ragged decoder.

Knows the service's model, processor and checks. Knows no queue: who collects the requests is the caller's.
"""

from collections.abc import Sequence

from processing_ttt import TttReply, TttTalker

from .limits import DemoError
from .service import TalkRequest, TalkService


def answer_together(service: TalkService, requests: Sequence[TalkRequest]) -> list[TttReply | DemoError]:
    """
    Answer requests in one batch. Each reply is the one that its request gets alone.

    Args:
        service ([`TalkService`]): Its model, processor and limits; a batch takes none of its slots, and as long as
        one request at most.
        requests (`Sequence[TalkRequest]`): Without conversation, adapter and options.

    Returns:
        `list`: A [`TttReply`] for each request, or the [`DemoError`] of one that cannot be answered; it does not keep
        the others waiting.
    """
    questions = [_messages(service, request) for request in requests]
    answerable = [question for question in questions if not isinstance(question, DemoError)]
    replies = iter(_replies(service, answerable) if answerable else ())
    return [question if isinstance(question, DemoError) else next(replies) for question in questions]


def _messages(service: TalkService, request: TalkRequest) -> list[dict] | DemoError:
    if request.conversation is not None or request.adapter is not None or request.options.generate_kwargs():
        return DemoError("A batch takes questions without conversation, adapter and options.")
    try:
        text, sound = request.checked_question(service.limits)
        return service.messages(request, text, service.loaded(sound))
    except ValueError as error:  # a refusal, or a sound that shows its fault only when it is decoded
        return error if isinstance(error, DemoError) else DemoError(str(error))


def _replies(service: TalkService, conversations: list[list[dict]]) -> list[TttReply | DemoError]:
    """Reply to all; where `generate` refuses one, as it refuses a prompt that is too long for the model, the others are answered alone."""
    try:
        return _replies_of_one_batch(service, conversations)
    except ValueError as error:
        if len(conversations) == 1:
            return [DemoError(str(error))]
        return [reply for conversation in conversations for reply in _replies(service, [conversation])]


def _replies_of_one_batch(service: TalkService, conversations: list[list[dict]]) -> list[TttReply]:
    talker = TttTalker(service.model, service.processor, max_time=service.limits.seconds_per_request)
    return talker.reply_messages(conversations)
