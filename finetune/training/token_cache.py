"""
A cache in front of the tokenizer: the examples of a run repeat the same words and prompts, and tokenizing them takes
longer than all other steps of making an example together.

Depends on texts and their token ids. Independent of records.
"""

from typing import Any

from transformers import PreTrainedTokenizerBase

LONGEST_TEXT = 1000  # characters
MOST_TEXTS = 20_000


class CachingTokenizer:
    """
    A tokenizer wrapper that caches `encode` and `apply_chat_template`.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Asked for what is not cached.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._ids: dict[str, list[int]] = {}
        self._prompts: dict[str, str] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Encode a text, from the cache where possible."""
        if add_special_tokens or len(text) > LONGEST_TEXT:
            return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)
        if text not in self._ids:
            _make_room(self._ids)
            self._ids[text] = self._tokenizer.encode(text, add_special_tokens=False)
        return list(self._ids[text])

    def apply_chat_template(self, messages: list[dict[str, Any]], tokenize: bool = False, **options: Any) -> str:
        """Write messages out as text, from the cache where possible; audio is only a placeholder in the prompt."""
        if tokenize:
            raise ValueError("Only texts are cached: pass `tokenize=False`, and encode the result.")
        shown = [(message["role"], _without_audio(message["content"])) for message in messages]
        key = repr((shown, sorted(options.items())))
        if len(key) > LONGEST_TEXT + len(options.get("chat_template") or ""):
            return self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        if key not in self._prompts:
            _make_room(self._prompts)
            self._prompts[key] = self._tokenizer.apply_chat_template(messages, tokenize=False, **options)
        return self._prompts[key]


def _without_audio(content: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [{name: value for name, value in part.items() if name != "audio"} for part in content]


def _make_room(known: dict[str, Any]) -> None:
    if len(known) == MOST_TEXTS:
        known.clear()
