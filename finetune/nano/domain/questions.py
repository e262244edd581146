"""
What nano can be asked, and the one right answer to each question.

Every question is a template filled with a fact, nearly every answer restates the question and then gives the result
("Twelve plus seven is nineteen."), and a fact has the same answer however it is asked, so exact match means
something. What is never trained on is decided here, by construction:
- "unseen_fact": about a tenth of the facts of open kinds (sums, differences, neighbours of numbers, comparing,
  counting), in any words;
- "unseen_sentence": for closed kinds (days, colours, capitals, ...), about a tenth of the pairs of template and fact;
  fact and template are each seen elsewhere;
- "unseen_template": the last template of every family, for the facts that are trained on.

Depends on texts. Independent of speech, tokens and files. Randomness comes from the seed alone. The facts are in
`families.py`, `more_families.py` and `small_talk.py`; second turns in `follow_ups.py`.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from .families import DAYS, MONTHS, NAMES, Family, first_families, sentence
from .more_families import CAPITALS, FEASTS, more_families
from .small_talk import TALK
from .spoken_numbers import NUMBER_WORDS, number_words

SPLITS = ("train", "unseen_fact", "unseen_sentence", "unseen_template")
HELD_OUT_SHARE = 0.1
LARGEST_NUMBER = (
    20  # that nano is asked about; what is held out is drawn over larger ones too, so that a later version keeps it
)
LARGEST_WRITTEN_NUMBER = 50  # that it reads about: tables too large to learn by heart have to be understood


@dataclass(frozen=True)
class Item:
    """
    A question and its answer.

    Args:
        kind (`str`): "sum", "difference", "number", "day", "month", "colour", "mix", "opposite", "name", "talk",
            "product", "compare", "count", "time", "unit", "calendar", "capital", "letter", "spelling", "rhyme",
            "animal" or "joke".
        question (`str`): One sentence.
        answer (`str`): A sentence or two of two to sixteen words.
        split (`str`): One of `SPLITS`.
    """

    kind: str
    question: str
    answer: str
    split: str


def items(seed: int = 0, largest_number: int = LARGEST_NUMBER) -> list[Item]:
    """
    All questions of the domain.

    Args:
        seed (`int`, *optional*, defaults to 0): Decides what is held out.
        largest_number (`int`, *optional*, defaults to 20): Of sums, differences and neighbours of numbers; what is
            held out stays so.

    Returns:
        `list[Item]`: In a fixed order; question texts are distinct.
    """
    rng = random.Random(seed)
    found = [
        item for family in [*first_families(), *more_families()] for item in _family_items(family, rng, largest_number)
    ]
    for answer, questions in TALK.items():
        held_out = questions[-1] if len(questions) >= 4 else None
        found += [Item("talk", q, answer, "unseen_template" if q == held_out else "train") for q in questions]
    return found


def text_corpus(seed: int = 0) -> list[str]:
    """
    Every training sentence once, questions and answers.

    Args:
        seed (`int`, *optional*, defaults to 0): That of `items`.

    Returns:
        `list[str]`: Sorted.
    """
    train = [item for item in items(seed) if item.split == "train"]
    return sorted({item.question for item in train} | {item.answer for item in train})


WRAPPERS = (
    "Hello, {}", "Hi, {}", "Please, {}", "So, {}", "Okay, {}", "Now, {}", "Tell me, {}", "I want to know, {}",
    "Do you know, {}", "Say, {}", "One question, {}", "Another question, {}", "Listen, {}", "My question is, {}",
    "Could you tell me, {}", "Can you say {}", "Can you answer this, {}", "Would you please tell me, {}",
    "Please answer me, {}", "I would like to know, {}", "Let me ask you, {}", "Here is a question, {}",
    "Good morning, {}", "Thank you, and {}", "Can you help me, {}", "If you can, tell me, {}", "Well, {}", "And {}",
    "How about this, {}", "Next, {}",
)  # fmt: skip


def wrapped(question: str, rng: random.Random) -> str:
    """
    Put a question into other words around it, so that what is asked has to be found in what is said.

    Args:
        question (`str`): A question of a kind other than name and talk, which begins with a word that is written
            small elsewhere.
        rng (`random.Random`): Chooses the words.

    Returns:
        `str`: A longer question with the same answer.
    """
    return rng.choice(WRAPPERS).format(question[0].lower() + question[1:])


def drills(count: int, seed: int = 0) -> list[str]:
    """
    Pieces of the training sentences in random order, for dictation: what is said has to be written down word by
    word, not guessed.

    Args:
        count (`int`): How many.
        seed (`int`, *optional*, defaults to 0): Decides the words.

    Returns:
        `list[str]`: Distinct sentences of three to twelve words, every other one of single words, the others of
        pieces of one to four words. Numbers that only ever meet in an unseen fact do not meet here either.
    """
    rng = random.Random(seed)
    corpus = text_corpus()
    numbers = sorted({word for text in corpus for word in normalise(text).split() if word in NUMBER_WORDS})
    sentences = [re.findall(r"[A-Za-z']+", text) for text in corpus]
    proper = {
        *DAYS,
        *MONTHS,
        *NAMES,
        *CAPITALS,
        *CAPITALS.values(),
        *" ".join(FEASTS).split(),
        *map(chr, range(ord("B"), ord("Z") + 1)),
    }
    others = sorted({w for words in sentences for w in words if w in proper or w.islower()} - set(numbers))
    kept_apart = {frozenset(_number_words_in(item.question)) for item in items() if item.split == "unseen_fact"}
    found: dict[str, None] = {}
    while len(found) < count:
        if len(found) % 2:
            length = rng.randint(5, 12)
            chosen: list[str] = []
            while len(chosen) < length:
                words = rng.choice(sentences)
                start, size = rng.randrange(len(words)), rng.randint(1, 4)
                chosen += [w if w in proper else w.lower() for w in words[start : start + size]]
            chosen = chosen[:length]
        else:
            chosen = [rng.choice(numbers if rng.random() < 0.4 else others) for _ in range(rng.randint(3, 9))]
        pairs = {frozenset(pair) for pair in combinations(sorted(set(_number_words_in(" ".join(chosen)))), 2)}
        if not pairs & kept_apart:
            found[sentence(" ".join(chosen) + ".")] = None
    return list(found)


def _number_words_in(text: str) -> list[str]:
    return [word for word in normalise(text).split() if word in NUMBER_WORDS]


def normalise(text: str) -> str:
    """
    Lower case, letters and single spaces only: what is pronounced of a text.

    Args:
        text (`str`): Any text.

    Returns:
        `str`: Words separated by one space.
    """
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("-", " ")))


_FUNCTION_WORDS = {
    "a", "an", "the", "is", "are", "am", "was", "of", "if", "comes", "make", "to", "and", "i",
    "you", "your", "my", "can", "how",
}  # fmt: skip


def keywords(text: str) -> list[str]:
    """
    What must be right in an answer: its numbers (whole) and content words.

    Args:
        text (`str`): An answer, or its transcript by a judge.

    Returns:
        `list[str]`: In order, lower case: "Twenty seven plus one is twenty eight." -> ["twenty seven", "plus", "one",
        "twenty eight"].
    """
    found: list[str] = []
    in_number = False
    for word in normalise(text).split():
        is_number = word in NUMBER_WORDS
        if is_number and in_number:
            found[-1] += f" {word}"
        elif word not in _FUNCTION_WORDS:
            found.append(word)
        in_number = is_number
    return found


def _family_items(family: Family, rng: random.Random, largest_number: int) -> Iterable[Item]:
    *templates, held_out_template = family.templates
    asked = {number_words(number) for number in range(largest_number + 1)}
    for slots, answer in family.facts:
        is_held_out = family.open and rng.random() < HELD_OUT_SHARE
        if family.limited and not asked.issuperset(slots):
            continue
        if is_held_out:
            yield from (Item(family.kind, fill(t, slots), answer, "unseen_fact") for t in templates)
            continue
        unseen = set()
        if not family.open:
            unseen = {t for t in templates if rng.random() < HELD_OUT_SHARE}
            # a fact is always asked for in half of the ways at least
            unseen = set(sorted(unseen)[: len(templates) // 2])
        for template in templates:
            split = "unseen_sentence" if template in unseen else "train"
            yield Item(family.kind, fill(template, slots), answer, split)
        yield Item(family.kind, fill(held_out_template, slots), answer, "unseen_template")


def fill(template: str, slots: tuple[str, ...]) -> str:
    """Put a fact's values into a template; the result begins with a capital."""
    return sentence(template.format(*slots))
