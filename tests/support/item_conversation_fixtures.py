"""Conversations of messages over a talker or a service."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from processing_ttt import TttItem, TttItemConversation


def conversation_of(talker: Any, items: Iterable[TttItem] = ()) -> TttItemConversation:
    """A conversation without a cache that has these messages; `talker` has a model and a processor."""
    conversation = TttItemConversation(talker.model, talker.processor)
    conversation.items = [replace(item) for item in items]
    return conversation
