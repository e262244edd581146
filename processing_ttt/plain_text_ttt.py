"""
Leave out of a text what is not read aloud: the signs of Markdown and HTML, frames, pictures, and most of an address.

A small set of rules instead of a parser, because most texts are not Markdown: `3 * 4`, `snake_case`, `#1` and `C#`
stay as they are. Independent of tokens and of how numbers are read.
"""

import html
import re

_FENCES_AND_RULES = re.compile(r"^[ \t]*(?:(?:```|~~~)[^`\n]*|([-*_=])(?:[ \t]*\1){2,}[ \t]*)$", re.MULTILINE)
_TABLE_RULES = re.compile(r"^(?=[^\n]*\|)(?=[^\n]*-)[|:\- \t]+$", re.MULTILINE)
_TABLE_ROWS = re.compile(r"^[ \t]*\|(.*)\|[ \t]*$", re.MULTILINE)
_ATTRIBUTES = r"(?:\s+[\w-]+=(?:\"[^\"<>]*\"|'[^'<>]*'|[^\s\"'<>]+))*\s*/?>"
_PHRASE_TAGS = re.compile(rf"</?(?:a|b|code|del|em|i|img|kbd|s|small|span|strong|su[bp]|u){_ATTRIBUTES}", re.IGNORECASE)
_BLOCK_TAGS = re.compile(
    r"<!--.{0,1000}?-->|</?(?:br|details|div|h[1-6]|hr|li|ol|p|pre|summary|t[dhr]|table|tbody|thead|ul)" + _ATTRIBUTES,
    re.IGNORECASE | re.DOTALL,
)
_ENTITIES = re.compile(r"&(?:#\d{1,6}|#x[\da-f]{1,5}|[a-z]{2,8});", re.IGNORECASE)
_TARGET = r"\((?:[^()\s]|\([^()\s]*\))*(?:[ \t]+(?:\"[^\"\n]*\"|'[^'\n]*'))?\)"  # an address, perhaps with a title
_MARKUP = tuple(
    (re.compile(pattern, re.MULTILINE), words)
    for pattern, words in (
        (r"^ {0,3}\[[^\]\n]+\]:[ \t]+(?:<|https?://|[./#])\S*.*$", ""),  # where the links of a text lead
        (r"^[ \t]*>(?:[ \t]*>)*(?:[ \t]+|$)", ""),  # quotations
        (r"^ {0,3}#{1,6}[ \t]+(?=\S)|(?<=[^\s#])[ \t]+#{2,}[ \t]*$", ""),  # headings
        # Bullets before a word, or before a number with a word: `- 5` may be a negative number.
        (r"^([ \t]*)[-*+][ \t]+(?=[^\s\d]|(?:\d\S*[ \t]+)+[^\W\d])(?:\[[ xX]\][ \t]+)?", r"\1"),
        (r"(?<!`)(`+)(?!`)[ ]?([^\n]{1,300}?)[ ]?(?<!`)\1(?!`)", r"\2"),  # code
        (r"!\[([^\]\n]{0,300})\]" + _TARGET, r"\1"),  # pictures
        (r"(?<!\w)\[([^\]\n]{1,300})\]" + _TARGET, r"\1"),  # links
        (r"(?<!\w)\[(?=[^\]\n]{0,300}[^\W\d])([^\]\n]{1,300})\]\[[^\]\n]{0,300}\]", r"\1"),
        (r"\[\^\w+\]:?", ""),  # footnotes
        *2
        * ((r"(?<![\\*a-zA-Z0-9])(\*{1,3})(?=[^\s*])([^\n]{1,300}?)(?<=[^\s\\])\1(?![*a-zA-Z0-9])", r"\2"),),  # nested
        *2 * ((r"(?<![\\\w])(_{1,3})(?=[^\s_])([^\n]{1,300}?)(?<=[^\s\\])\1(?!\w)", r"\2"),),
        (r"(?<![~\w])~~(?=\S)([^\n]{1,300}?)(?<=\S)~~(?![~\w])", r"\1"),
        (r"\\([*_#`\[\]<>~|])", r"\1"),
        (r"<((?:https?://|mailto:)[^<>\s]+|[\w.+-]+@[\w.-]+)>", r"\1"),
    )
)
# Words of frames, symbols and pictures alone, and bullets before a word.
_DRAWINGS = re.compile(
    r"(?<!\S)[\u2022\u2500-\u27bf\ufe0f\U0001f300-\U0001faff|_`]+(?!\S)|^[ \t]*[-*](?=\s+[^\s\d])", re.MULTILINE
)
_PATH = r"/[^\s<>\"'()?#]*(?:\([^\s()]*\)[^\s<>\"'()?#]*)*(?:[?#](?=\w)[^\s<>\"'()]*(?<=[\w/=&%-]))?"
_URL = re.compile(rf"\b(?:(?:https?|ftp)://(?:www\.)?|www\.(?=\w))([^\s<>\"'()/?#]+(?:{_PATH})?)", re.IGNORECASE)
_MAIL = re.compile(r"(?<![\w.+-])(?:mailto:)?([\w.+-]+@(?:[\w-]+\.)+[a-z]{2,})\b", re.IGNORECASE)
# A host or the name of a file. Two letters before the last point: not `e.g.that`.
_HOST = re.compile(rf"(?<![\w./@-])(?!\d+\.)((?:[\w-]+\.)*[\w-]{{2,}}\.[a-z]{{2,}}(?![\w@]))({_PATH})?")
_SIGNS = {".": " dot ", "/": " slash ", "@": " at ", "_": " underscore ", "+": " plus ", ":": " colon "}


def without_drawings(text: str) -> str:
    """
    Leave out what is not read aloud: frames and rules, bars of tables, pictures, and the bullets of lists.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: The text without words of such characters alone, and without `-` or `*` at the begin of a line; the same
        text if nothing else is in it.
    """
    found = _DRAWINGS.sub("", text)
    return found if found.strip() else text


def without_markup(text: str) -> str:
    """
    Leave out the signs of Markdown and HTML.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: The words: of a link and a picture its text, of a row of a table its cells with commas between them. The
        same text if it has no words.
    """
    found = _BLOCK_TAGS.sub("\n", _PHRASE_TAGS.sub("", text))
    found = _ENTITIES.sub(lambda entity: html.unescape(entity[0]), found)
    found = _TABLE_RULES.sub("", _FENCES_AND_RULES.sub("", found))
    found = _TABLE_ROWS.sub(_cells, found)
    for signs, words in _MARKUP:
        found = signs.sub(words, found)
    return found if found.strip() else text


def plain_text(text: str, is_english: bool = True) -> str:
    """
    Leave out of a text what is not read aloud.

    Args:
        text (`str`): Any text, perhaps Markdown.
        is_english (`bool`, *optional*, defaults to `True`): Whether signs within addresses become English words.

    Returns:
        `str`: The text without markup and drawings, and with addresses from their host to their path: `"example dot org
        slash a"` for `"https://example.org/a?b=1"`, or `"example.org/a"` in another language.
    """
    text = without_markup(text)
    text = _URL.sub(lambda found: _address(found[1], is_english), text)
    if is_english:
        text = _MAIL.sub(lambda found: _address(found[1]), text)
        text = _HOST.sub(lambda found: _address(found[0]), text)
    return without_drawings(text)


def _cells(row: re.Match[str]) -> str:
    """Write the cells of a row of a table as a list."""
    return ", ".join(cell.strip() for cell in row[1].replace(r"\|", " ").split("|") if cell.strip())


def _address(address: str, is_english: bool = True) -> str:
    """Write an address as it is read; the punctuation behind it is not part of it."""
    name = address.rstrip(".,;:!?")
    rest = address[len(name) :]
    name = re.split("[?#]", name)[0].rstrip("/")
    if is_english:
        name = "".join(_SIGNS.get(character, character) for character in name)
    return " ".join(name.split()) + rest
