"""
Warn of letters that a tokenizer was not trained on: a model that never had them in a text cannot read them aloud.

Depends on the tokenizer only. Independent of languages: German, for example, has the letters of English.
"""

import re
import unicodedata
import warnings

from transformers import PreTrainedTokenizerBase

_WORD = re.compile(r"[^\W\d_]+")


def warn_of_unknown_letters(text: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Warn if a word of a text, without Latin letters, is nothing but single bytes to a tokenizer.

    Args:
        text (`str`): Any text.
        tokenizer (`PreTrainedTokenizerBase`): A tokenizer; a multilingual one has tokens of several bytes.
    """
    for word in dict.fromkeys(_WORD.findall("" if text.isascii() else unicodedata.normalize("NFKC", text))):
        script = unicodedata.name(word[0], "").partition(" ")[0]
        if script == "LATIN" or any(map(str.isascii, word)) or not word.isalpha():
            continue
        ids = tokenizer.encode(word, add_special_tokens=False)
        if not ids or tokenizer.unk_token_id in ids or len(ids) >= len(word.encode()):
            script = script if script == "CJK" else script.capitalize()
            warnings.warn(
                f"The text has {script} letters, which are foreign to this checkpoint's tokenizer: what is spoken is "
                "not that text. Use a checkpoint or an adapter of its language (`--model`, `--adapter`), or write the "
                "text in Latin letters.",
                stacklevel=3,
            )
            return
