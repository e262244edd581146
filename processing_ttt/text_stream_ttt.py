"""
Token ids to text, in complete characters, as they arrive.

Depends on a function that decodes token ids. Independent of tokenizers.
"""

from collections.abc import Callable

REPLACEMENT = "\ufffd"  # a tokenizer's text for bytes that are no character, or an incomplete one


class TextStream:
    """
    Token ids to text, in complete characters.

    Only the last token ids are decoded again with each one, so the cost does not grow with the text. The joined deltas
    equal the text of all token ids of a byte-level tokenizer (such as Qwen's and nano's), also for bytes that are no
    character.

    Args:
        decode (`Callable`): Decodes token ids to text.
    """

    def __init__(self, decode: Callable[[list[int]], str]):
        self.decode = decode
        # Token ids of the last delta: a tokenizer may decode the first token id of a text differently.
        self._decoded: list[int] = []
        self._pending: list[int] = []

    def push(self, text_ids: list[int]) -> str:
        """
        Take the next token ids.

        Args:
            text_ids (`list[int]`): Token ids of text.

        Returns:
            `str`: The characters that became complete.
        """
        self._pending += text_ids
        delta = self._new_text()
        if not delta or delta.endswith(REPLACEMENT):  # perhaps the first bytes of a character
            return ""
        self._decoded, self._pending = self._pending, []
        return delta

    def finish(self) -> str:
        """Return the rest: bytes that did not become a character."""
        delta, self._pending = self._new_text(), []
        return delta

    def _new_text(self) -> str:
        if not self._pending:
            return ""
        return self.decode(self._decoded + self._pending)[len(self.decode(self._decoded)) :]
