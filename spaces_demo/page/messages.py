"""
A turn as the messages of a `gr.Chatbot`: text, in which words light up while they are played, and audio.

The chatbot renders text as (sanitized) HTML even where it renders no Markdown, so the texts of users and models are
escaped here. Independent of Gradio.
"""

from html import escape
from typing import Literal, TypedDict

from .reply_trace import ReplyTrace
from .session import ShownTurn


class ChatMessage(TypedDict):
    """A message of a `gr.Chatbot`: HTML, or the path of an audio file."""

    role: Literal["user", "assistant"]
    content: str | dict[str, str]


def chat_messages(turn: ShownTurn, is_last: bool = False) -> list[ChatMessage]:
    """
    Write a turn as the messages of a `gr.Chatbot`: text as it is, audio as files to be played.

    Args:
        turn ([`ShownTurn`]): A question, and its reply as far as it has come.
        is_last (`bool`, *optional*, defaults to `False`): Whether it is the turn whose reply is played.

    Returns:
        `list[ChatMessage]`: The user's messages and the assistant's.
    """
    question, reply = turn.question_file, turn.reply_file
    contents: list[tuple[Literal["user", "assistant"], str | dict[str, str] | None]] = [
        ("user", {"path": str(question)} if question else None),
        ("user", _escaped(turn.request.text)),
        ("user", _escaped(f"“{turn.transcript}”" if turn.transcript else None)),
        ("assistant", timed_words(turn.trace) if is_last else _escaped(turn.trace.text.strip())),
        ("assistant", {"path": str(reply)} if reply else None),
        ("assistant", _escaped(turn.error)),
    ]
    return [{"role": role, "content": content} for role, content in contents if content]


def timed_words(trace: ReplyTrace) -> str:
    """
    Mark the words of a reply with the times of their audio, for the player. In a message Gradio keeps classes and no
    other attributes: the class `at-240-520` is from 240 to 520 ms.

    Args:
        trace ([`ReplyTrace`]): A reply, as far as it has come.

    Returns:
        `str`: HTML.
    """
    marked = []
    for index, span in enumerate(trace.spans):
        words = escape(span.words.lstrip() if index == 0 else span.words, quote=False)
        begins, seconds = trace.begins(index), trace.seconds_of(index)
        times = f"at-{1000 * begins:.0f}-{1000 * (begins + seconds):.0f}"
        marked.append(f'<span class="word {times}">{words}</span>' if seconds else words)
    return "".join(marked)


def _escaped(text: str | None) -> str | None:
    return None if text is None else escape(text, quote=False)
