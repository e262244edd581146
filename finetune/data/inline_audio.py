"""
Audio written as text: `<|audio_N|>` tokens between words, as in the released Text-to-Talk data (`messages` and `text`).

Depends on the strings of the markers. Independent of token ids and of the layout, which chooses the markers of a span:
what was written with other markers, or with none, becomes the same example.
"""

import re

from processing_ttt.vocabulary_ttt import (
    AUDIO_PLACEHOLDER,
    BEGIN_OF_AUDIO,
    BEGIN_OF_LAST_AUDIO,
    BEGIN_OF_MESSAGE,
    END_OF_AUDIO,
    END_OF_LAST_SPAN,
    END_OF_MESSAGE,
    END_OF_SPAN,
    MASK,
    PADDING,
)

_BEGINS = (BEGIN_OF_AUDIO, BEGIN_OF_LAST_AUDIO)
_ENDS = (END_OF_AUDIO, END_OF_SPAN, END_OF_LAST_SPAN)
_REFUSED = (AUDIO_PLACEHOLDER, MASK, BEGIN_OF_MESSAGE, END_OF_MESSAGE, PADDING)
_TOKENS = re.compile(r"(<\|audio_\d{1,9}\|>|" + "|".join(map(re.escape, (*_BEGINS, *_ENDS, *_REFUSED))) + ")")
_MESSAGE = re.compile(
    re.escape(BEGIN_OF_MESSAGE) + r"(system|user|assistant)\n(.*?)" + re.escape(END_OF_MESSAGE) + r"\n?", re.DOTALL
)

Piece = tuple[str, list[int]]  # some text, then the codes of the audio that follows it


def control_tokens(text: str) -> list[str]:
    """
    Find the markers and codes in a text that should hold words only.

    Args:
        text (`str`): A transcript, a question, ...

    Returns:
        `list[str]`: What a tokenizer would read as a marker or a code, in order.
    """
    return _TOKENS.findall(text)


def split_written_audio(text: str) -> list[Piece]:
    """
    Split a text at the audio written in it.

    A begin marker, or text, ends the audio before it. Markers themselves are dropped.

    Args:
        text (`str`): Words and `<|audio_N|>` tokens, with or without begin and end markers.

    Returns:
        `list[tuple[str, list[int]]]`: Pieces of some text followed by codes. Only the first may lack text before its
        codes (or the codes follow others at once), only the last may lack codes.

    Raises:
        ValueError: If it holds a mask, a placeholder or a marker of messages.
    """
    pieces: list[Piece] = []
    words, codes = "", []
    for part in _TOKENS.split(text):
        if part in _REFUSED:
            raise ValueError(f"The text holds {part}, which is neither words nor audio.")
        if part.startswith("<|audio_"):
            codes.append(int(part[len("<|audio_") : -len("|>")]))
        elif part and part not in _ENDS:
            if codes:
                pieces.append((words, codes))
                words, codes = "", []
            words += "" if part in _BEGINS else part
    return [*pieces, (words, codes)] if words or codes else pieces


def written_messages(text: str) -> list[dict[str, str]] | None:
    """
    Read messages that were written out with their markers.

    Args:
        text (`str`): Perhaps `<|im_start|>role`, content, `<|im_end|>`, and so on.

    Returns:
        `list[dict]`: `role` and `content` of each message, or `None` if anything else is in the text.
    """
    found, position = [], 0
    while match := _MESSAGE.match(text, position):
        found.append({"role": match[1], "content": match[2]})
        position = match.end()
    return found if found and not text[position:].strip() else None
