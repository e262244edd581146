"""
Rewrite what `wetext` does not read in English, or reads wrongly, in forms that it reads.

Depends on nothing: regular expressions, most of which leave numbers as digits for `wetext`.
"""

import re
import unicodedata
from collections.abc import Callable

# Units of money and their hundredths, one and several.
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "€": ("euro", "euros", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "¥": ("yen", "yen", "", ""),
}
_MAGNITUDES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion"}
_UNITS = {
    "tbsp": "tablespoon",
    "tsp": "teaspoon",
    "hr": "hour",
    "min": "minute",
    "sec": "second",
    "l": "liter",
    "m": "meter",
}
_MONEY = re.compile(
    r"(?:(?<![\w)])(?P<minus>[-−]) ?)?(?<![\w$€£¥])(?P<sign>[$€£¥]) ?(?P<less>[-−])?"
    r"(?P<whole>\d{1,3}(?:\.\d{3})+(?=,\d\d(?!\d))|\d{1,3}(?:,\d{3})+|\d+)(?:[.,](?P<part>\d+))?(?![\d$€£¥]|[.,-]\d)"
    r"(?: ?(?P<many>[kKmMbB]|bn)\b| (?P<word>(?:thousand|[mb]illion|trillion)\b))?(?P<per>/(?=[a-z]))?"
)


def _money(found: re.Match[str]) -> str:
    """Write an amount with its unit behind it: `12 euros and 40 cents` for `€12.40`."""
    one, several, hundredth, hundredths = _CURRENCIES[found["sign"]]
    whole = found["whole"].replace(".", ",")
    whole = f"{int(whole):,}" if whole.isdigit() else whole
    part, many = found["part"] or "", found["word"] or _MAGNITUDES.get((found["many"] or "").lower())
    unit = one if whole == "1" else several
    if many:
        words = f"{whole}.{part}".rstrip(".") + f" {many} {several}"
    elif not part:
        words = f"{whole} {unit}"
    elif len(part) != 2 or not hundredth:
        words = f"{whole}.{part} {several}"
    else:
        cents = f"{int(part)} {hundredth if int(part) == 1 else hundredths}"
        parts = [f"{whole} {unit}"] * (whole != "0" or part == "00") + [cents] * (part != "00")
        words = " and ".join(parts)
    return ("minus " if found["minus"] or found["less"] else "") + words + (" per " if found["per"] else "")


def _range_of_money(found: re.Match[str]) -> str:
    """Write the unit of both ends once, unless the first has cents."""
    first = f"{found[1] if '.' in found[2] else ''}{found[2]}"
    return f"{first} to {found[1]}"


def _digits(found: re.Match[str]) -> str:
    """Write the digits of a telephone number one by one, with a pause between its groups."""
    groups = (" ".join(group) for group in re.findall(r"\d+", found[0]))
    return ("plus " if found[0].startswith("+") else "") + ", ".join(groups)


def _initials(found: re.Match[str]) -> str:
    """Write initials without the points that would end a sentence, except at the end of the line."""
    ends_line = not found.string[found.end() :].strip()
    return " ".join(found[0].replace(".", "")) + "." * ends_line


def _unit(found: re.Match[str]) -> str:
    """Write a unit as a word, after one and fractions in the singular."""
    number, unit = found[1], _UNITS[(found[2] or found[3]).lower()]
    return f"{number} {unit}{'' if re.fullmatch(r'1|[0-9]/[0-9]+', number) else 's'}"


_REWRITTEN: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # abbreviations
    (re.compile(r"\be\. ?g\.,?", re.IGNORECASE), "for example"),
    (re.compile(r"\bi\. ?e\.,?", re.IGNORECASE), "that is"),
    (re.compile(r"\betc\.(?=$|\s+[A-Z])"), "et cetera."),
    (re.compile(r"\betc\."), "et cetera"),
    (re.compile(r"\bvs\."), "versus"),
    (re.compile(r"\b(?:approx|ca)\.(?= ?\d)"), "about"),
    (re.compile(r"\bNo\.(?= ?\d)"), "number"),
    (re.compile(r"\bNo\."), "No ."),  # not "number": the space goes again
    (re.compile(r"\bFig\.(?= ?\d)"), "figure"),
    (re.compile(r"\bpp\.(?= ?\d)"), "pages"),
    (re.compile(r"\bp\.(?= ?\d)"), "page"),
    (re.compile(r"\bMrs\."), "Missus"),
    (re.compile(r"\bProf\."), "Professor"),
    (re.compile(r"\bSt\.(?= [A-Z])"), "Saint"),
    (re.compile(r"\b(?![AP]\.M\.)(?:[A-Z]\.){2,}"), _initials),
    # numbers
    (re.compile(r"[¼-¾⅐-⅞]"), lambda found: " " + unicodedata.normalize("NFKC", found[0]).replace("⁄", "/")),
    (re.compile(r"(?<!\w)\+\d{1,3}(?:[ -]\(?\d{2,5}\)?){2,5}(?!\d)"), _digits),
    (re.compile(r"(?<![\d-])(?<!\) )(?<!\))\d{3}-(?!\d\d00)\d{4}(?![\d-])"), _digits),  # 500-1000 is a range
    (re.compile(r"\b((?:1[1-9]|20)\d\d)[-–]((?:1[1-9]|20)\d\d)\b"), r"\1 to \2"),
    (re.compile(r"\b((?:19|20)\d\d)/(\d\d)\b(?!/)"), r"\1 \2"),
    (re.compile(r"\b(24/7|50/50|9/11)\b"), lambda found: found[1].replace("/", " ")),
    (re.compile(r"\b(1[1-9]|20)([2-9])0s\b"), r"\1 '\g<2>0s"),
    (re.compile(r"\b(1[1-9]|20)10s\b"), r"\1 tens"),
    (re.compile(r"\b(1[1-9])00s\b"), r"\1 hundreds"),
    (re.compile(r"\b2000s\b"), "2 thousands"),
    (re.compile(r"(?<![\w$€£¥])([$€£¥])(\d+(?:[.,]\d+)*) ?[-–—] ?\1?(?=\d)"), _range_of_money),
    (_MONEY, _money),
    (re.compile(r"(?<=\d) ?¢"), " cents"),
    (re.compile(r"(?<=\d) ?– ?(?=\d)"), " to "),
    (re.compile(r"(?<!\S)−(?=\d)"), "-"),
    (re.compile(r"[~≈] ?(?=\d)"), "about "),
    (re.compile(r"(?<=\d) ?± ?(?=\d)"), " plus or minus "),
    (re.compile(r"± ?(?=\d)"), "plus or minus "),
    (re.compile(r"(?<=\w)\^(?=\d)"), " to the power of "),
    (re.compile(r"(?<![\d.,/])((?:\d+ )?\d+(?:[.,/]\d+)*) ?(?:(tbsp|tsp|hr|min|sec)s?|([lL]|m))\b(?![/²³^'’])"), _unit),
    (re.compile(r"(?<=\d) ?m/s\b"), " meters per second"),
    (
        re.compile(r"(?<![\d,.])1,(\d{3})(?!\d|,\d|(?<=000)\.\d)"),
        lambda found: f"1 thousand {int(found[1]) or ''}".strip(),
    ),
    (re.compile(r"(?<![\w,./:-])1000(?![\w/:]|[,.-]\d)"), "1 thousand"),
    (re.compile(r"(?<=\d) ?× ?(?=\d)"), " times "),
    (re.compile(r"(?<=\d) ?÷ ?(?=\d)"), " divided by "),
    (re.compile(r"(?<!\S)\+(?=\d)"), "plus "),
    (re.compile(r"(?<=\d)\+(?!\S)"), " plus"),
    (re.compile(r"(?<!\w)#(?=\d)"), "number "),
    (re.compile(r"[’'](?=\d0s\b)"), "'"),
)


def readable_english(line: str) -> str:
    """
    Rewrite a line of English for `wetext`.

    Args:
        line (`str`): Any text without ends of lines.

    Returns:
        `str`: The same words and numbers in forms that `wetext` reads: `"12 euros and 40 cents"` for `"€12.40"`,
        `"versus"` for `"vs."`.
    """
    for written, readable in _REWRITTEN:
        line = written.sub(readable, line)
    return line
