"""
Questions as people ask them: contractions, politeness, hesitation, half sentences.

`freely_worded` varies the plain questions of the domain, for training. `free_test_questions` were written by hand and
are never trained on.

Depends on the kinds of question of `domain.py`. Independent of speech.
"""

import random
import re
from pathlib import Path
from typing import NamedTuple

FREE_TEST = Path(__file__).with_name("free_test.tsv")

CONTRACTIONS = {
    "What is ": "What's ", "How is ": "How's ", "When is ": "When's ", "Which is ": "Which's ",
    "I would ": "I'd ", "I am ": "I'm ", "what is ": "what's ", "when is ": "when's ",
}  # fmt: skip
OPENINGS = (
    "um, ", "uh, ", "so, ", "hey, ", "okay, ", "well, ", "please, ", "hey nano, ", "listen, ", "hmm, ", "and ",
    "sorry, ", "excuse me, ", "quick question, ", "could you tell me, ", "I wonder, ", "just tell me, ",
    "do you happen to know, ", "I'd like to know, ",
)  # fmt: skip
ENDINGS = (", please", ", thanks", ", then", " again", ", do you know", ", thank you")
# A plain question of a kind, and half a sentence that means the same.
HALF_SENTENCES = {
    "sum": (
        (r"^What is (.+ plus .+)\?$", "{0}?"),
        (r"^How much is (.+ plus .+)\?$", "{0}, how much?"),
        (r"^Tell me (.+ plus .+)\.$", "{0} makes?"),
    ),
    "difference": ((r"^What is (.+ minus .+)\?$", "{0}?"), (r"^How much is (.+ minus .+)\?$", "and {0}?")),
    "product": ((r"^What is (.+ times .+)\?$", "{0}?"), (r"^How much is (.+ times .+)\?$", "{0} makes?")),
    "capital": (
        (r"^What is the capital of (.+)\?$", "capital of {0}?"),
        (r"^Tell me the capital of (.+)\.$", "the capital of {0}?"),
        (r"^Name the capital of (.+)\.$", "{0}'s capital?"),
    ),
    "opposite": (
        (r"^What is the opposite of (.+)\?$", "opposite of {0}?"),
        (r"^Tell me the opposite of (.+)\.$", "the opposite of {0}?"),
    ),
    "colour": (
        (r"^What is the colour of (.+)\?$", "colour of {0}?"),
        (r"^Tell me the colour of (.+)\.$", "the colour of {0}?"),
    ),
    "rhyme": ((r"^Give me a rhyme for (.+)\.$", "a rhyme for {0}?"),),
    "number": ((r"^What comes (after|before) (.+)\?$", "and {0} {1}?"),),
    "joke": ((r"^Tell me a joke about (.+)\.$", "a joke about {0}?"),),
    "spelling": ((r"^How do you spell (.+)\?$", "spelling of {0}?"),),
}  # fmt: skip
KEPT_WHOLE = ("talk", "name")  # greetings and names: other words would be another question


def freely_worded(question: str, kind: str, rng: random.Random) -> str:
    """
    Word a plain question as a person might ask it.

    Args:
        question (`str`): A question of the domain.
        kind (`str`): Its kind.
        rng (`random.Random`): Chooses.

    Returns:
        `str`: The question in other words, with the same answer; beginning with a capital.
    """
    text = question
    for pattern, half in HALF_SENTENCES.get(kind, ()):
        if (found := re.match(pattern, text)) and rng.random() < 0.6:
            text = half.format(*found.groups())
            break
    for plain, short in CONTRACTIONS.items():
        if text.startswith(plain) and rng.random() < 0.7:
            text = short + text.removeprefix(plain)
    if kind not in KEPT_WHOLE:
        if rng.random() < 0.6:
            first = text if text.startswith(("I ", "I'")) else text[0].lower() + text[1:]
            text = rng.choice(OPENINGS) + first
        if rng.random() < 0.25:
            text = text[:-1] + rng.choice(ENDINGS) + text[-1]
    return text[0].upper() + text[1:]


class FreeQuestion(NamedTuple):
    """
    A freely worded question to measure with.

    Args:
        question (`str`): As a person would ask it.
        kind (`str`): Its kind; `"outside"` where nano cannot know.
        answer (`str`): The right answer.
        written (`str`): `"apart"` by somebody who had seen no wording of training; `"known"` to the author of
            `free_templates.py`; `"dev"`, written apart too, to choose settings by.
    """

    question: str
    kind: str
    answer: str
    written: str


def free_test_questions() -> list[FreeQuestion]:
    """The freely worded questions to measure with or to choose by, which are never trained on."""
    lines = FREE_TEST.read_text(encoding="utf-8").splitlines()[1:]
    return [FreeQuestion(*line.split("\t")) for line in lines]
