"""
What nano version 0 can be asked, and the one right answer to each question.

Every question is a template filled with a fact, every answer restates what was heard and then says the result ("Twelve plus seven
is nineteen."), and a fact has the same answer however it is asked, so exact match means something. What is never trained on is
decided here, by construction:
- "unseen_fact": about a tenth of the sums, differences and neighbours of numbers, in any words;
- "unseen_sentence": for closed kinds (days, colours, names, ...), about a tenth of the pairs of template and fact; fact and template
  are each seen elsewhere;
- "unseen_template": the last template of every family, for the facts that are trained on.

Knows: texts. Does not know: speech, tokens, files. Randomness comes from the seed alone.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

SPLITS = ("train", "unseen_fact", "unseen_sentence", "unseen_template")
HELD_OUT_SHARE = 0.1
LARGEST_NUMBER = 20  # that version 0 is asked about; what is held out is drawn over larger ones too, so that a later version keeps it
LARGEST_WRITTEN_NUMBER = 50  # that it reads about: tables too large to learn by heart have to be understood

_SMALL_NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
_NUMBER_WORDS = {*_SMALL_NUMBERS, *_TENS, "hundred"}

DAYS = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
]  # fmt: skip
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
]  # fmt: skip
NAMES = [
    "Adam", "Alice", "Amy", "Anna", "Ben", "Bob", "Brian", "Carl", "Carol", "Charles", "Chris", "Clara",
    "Daniel", "David", "Diana", "Dora", "Edward", "Emily", "Emma", "Eric", "Eva", "Frank", "Fred", "George",
    "Grace", "Hannah", "Harry", "Helen", "Henry", "Jack", "James", "Jane", "John", "Julia", "Karen", "Kate",
    "Kevin", "Laura", "Linda", "Lisa", "Lucy", "Maria", "Mark", "Martin", "Mary", "Max", "Michael", "Nancy",
    "Nina", "Oliver", "Oscar", "Paul", "Peter", "Robert", "Rose", "Sarah", "Simon", "Sophie", "Susan", "Tom",
]  # fmt: skip
COLOURS = {
    "yellow": "a banana, a lemon, the sun, a sunflower, corn, butter",
    "red": "a tomato, blood, a strawberry, a cherry, a ruby, a fire engine",
    "blue": "the sky, the ocean, a blueberry, a sapphire",
    "green": "grass, a frog, a cucumber, a leaf, spinach, broccoli",
    "orange": "an orange, a carrot, a pumpkin",
    "white": "snow, milk, a swan, salt, sugar, a polar bear",
    "black": "coal, a crow, the night, oil",
    "grey": "an elephant, a mouse, a dolphin, ash",
    "brown": "chocolate, coffee, wood, a walnut",
    "pink": "a flamingo, a pig",
    "purple": "a grape, lavender, a plum",
}
MIXTURES = {
    ("red", "yellow"): "orange",
    ("blue", "yellow"): "green",
    ("red", "blue"): "purple",
    ("red", "white"): "pink",
    ("black", "white"): "grey",
    ("red", "green"): "brown",
}
OPPOSITES = (
    "hot cold, big small, fast slow, up down, left right, black white, open closed, young old, happy sad, high low, long short, "
    "rich poor, strong weak, hard soft, light dark, full empty, early late, near far, clean dirty, wet dry, thick thin, wide narrow, "
    "loud quiet, good bad, true false, inside outside, above below, first last, sweet sour, easy difficult, safe dangerous, win lose, "
    "love hate, push pull, buy sell, laugh cry, always never, more less, north south, east west, smooth rough, cheap expensive, "
    "top bottom, front back, friend enemy, summer winter, war peace, give take"
)
# Answer -> ways to ask for it; where there are four or more, the last is never trained on.
TALK = {
    "Hello, how can I help you?": ("Hello.", "Hi.", "Hello there.", "Hi there.", "Hello, can you help me?", "Hi, can you help me?"),
    "Good morning, how can I help you?": ("Good morning.", "Good morning to you.", "Hello and good morning.", "Hi, good morning."),
    "Good afternoon, how can I help you?": ("Good afternoon.", "Good afternoon to you.", "Hello and good afternoon.", "Hi, good afternoon."),
    "Good evening, how can I help you?": ("Good evening.", "Good evening to you.", "Hello and good evening.", "Hi, good evening."),
    "I am fine, thank you.": ("How are you?", "How are you today?", "How are you doing?", "Hello, how are you?", "Are you well?", "How are you doing today?"),
    "My name is Nano.": ("What is your name?", "Who are you?", "Tell me your name.", "What are you called?", "Do you have a name?", "Please tell me your name."),
    "I am a small talking computer.": ("What are you?", "Are you a robot?", "Are you a person?", "Are you a computer?", "Are you a small computer?"),
    "I can add, subtract and answer questions.": ("What can you do?", "How can you help me?", "What do you know?", "Tell me what you can do.", "Please tell me what you can do."),
    "I live inside your computer.": ("Where do you live?", "Where are you?", "Where are you from?", "Where is your home?", "Tell me where you live."),
    "I am very young.": ("How old are you?", "Are you old?", "What is your age?", "Are you young?", "Tell me how old you are."),
    "Yes, I can hear you.": ("Can you hear me?", "Do you hear me?", "Are you there?", "Hello, can you hear me?", "Hello, are you there?"),
    "Sorry, I know no jokes yet.": ("Tell me a joke.", "Do you know a joke?", "Can you tell me a joke?", "Please tell me a joke."),
    "You are welcome.": ("Thank you.", "Thanks.", "Thank you very much.", "Thanks a lot.", "Many thanks.", "Thank you a lot."),
    "Goodbye, see you soon.": ("Goodbye.", "Bye.", "Bye bye.", "See you soon.", "See you later.", "Goodbye, see you later."),
    "Good night, sleep well.": ("Good night.", "Good night to you.", "Sleep well.", "Good night and sleep well."),
    "I like to talk with you.": ("What do you like?", "Do you like to talk?", "Do you like me?", "Tell me what you like."),
}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """
    A question and its answer.

    Args:
        kind (`str`): "sum", "difference", "number", "day", "month", "colour", "mix", "opposite", "name" or "talk".
        question (`str`): One sentence.
        answer (`str`): One sentence of two to nine words.
        split (`str`): One of `SPLITS`.
    """

    kind: str
    question: str
    answer: str
    split: str


@dataclass(frozen=True)
class _Family:
    """Facts (values for the templates' slots, and the answer) that are asked for with the same templates, the last held out."""

    kind: str
    templates: tuple[str, ...]
    facts: Sequence[tuple[tuple[str, ...], str]]
    open: bool = False  # enough facts to hold out whole ones


def number_words(number: int) -> str:
    """
    A number in words, as it is spoken.

    Args:
        number (`int`): 0 to 100.

    Returns:
        `str`: "zero" ... "twenty seven" ... "one hundred", without hyphens.

    Raises:
        ValueError: The number is out of range.
    """
    if not 0 <= number <= 100:
        raise ValueError(f"Numbers from 0 to 100 have words here, {number} has none.")
    if number == 100:
        return "one hundred"
    if number < 20:
        return _SMALL_NUMBERS[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f" {_SMALL_NUMBERS[ones]}" if ones else "")


def items(seed: int = 0, largest_number: int = LARGEST_NUMBER) -> list[Item]:
    """
    All questions of the domain.

    Args:
        seed (`int`, *optional*, defaults to 0): Decides what is held out.
        largest_number (`int`, *optional*, defaults to 20): Of sums, differences and neighbours; what is held out stays so.

    Returns:
        `list[Item]`: In a fixed order; question texts are distinct.
    """
    rng = random.Random(seed)
    found = [item for family in _families() for item in _family_items(family, rng, largest_number)]
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
    "Hello, {}", "Hi, {}", "Please, {}", "So, {}", "Okay, {}", "Now, {}", "Tell me, {}", "I want to know, {}", "Do you know, {}", "Say, {}",
    "One question, {}", "Another question, {}", "Listen, {}", "My question is, {}", "Could you tell me, {}", "Can you say {}", "Can you answer this, {}",
    "Would you please tell me, {}", "Please answer me, {}", "I would like to know, {}", "Let me ask you, {}", "Here is a question, {}",
    "Good morning, {}", "Thank you, and {}", "Can you help me, {}", "If you can, tell me, {}", "Well, {}", "And {}", "How about this, {}", "Next, {}",
)  # fmt: skip


def wrapped(question: str, rng: random.Random) -> str:
    """
    Put a question into other words around it, so that what is asked has to be found in what is said.

    Args:
        question (`str`): A question of a kind other than name and talk, which begins with a word that is written small elsewhere.
        rng (`random.Random`): Chooses the words.

    Returns:
        `str`: A longer question with the same answer.
    """
    return rng.choice(WRAPPERS).format(question[0].lower() + question[1:])


def drills(count: int, seed: int = 0) -> list[str]:
    """
    Pieces of the training sentences in random order, for dictation: what is heard has to be written down word by word, not guessed.

    Args:
        count (`int`): How many.
        seed (`int`, *optional*, defaults to 0): Decides the words.

    Returns:
        `list[str]`: Distinct sentences of three to twelve words, every other one of single words, the others of pieces of one to four
        words. Numbers that only ever meet in an unseen fact do not meet here either.
    """
    rng = random.Random(seed)
    corpus = text_corpus()
    numbers = sorted({word for text in corpus for word in normalise(text).split() if word in _NUMBER_WORDS})
    sentences = [re.findall(r"[A-Za-z]+", text) for text in corpus]
    proper = {*DAYS, *MONTHS, *NAMES, "I"}
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
            found[_sentence(" ".join(chosen) + ".")] = None
    return list(found)


def _number_words_in(text: str) -> list[str]:
    return [word for word in normalise(text).split() if word in _NUMBER_WORDS]


def normalise(text: str) -> str:
    """
    Lower case, letters and single spaces only: what can be heard of a text.

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
        text (`str`): An answer, or what a judge heard of it.

    Returns:
        `list[str]`: In order, lower case: "Twenty seven plus one is twenty eight." -> ["twenty seven", "plus", "one", "twenty eight"].
    """
    found: list[str] = []
    in_number = False
    for word in normalise(text).split():
        is_number = word in _NUMBER_WORDS
        if is_number and in_number:
            found[-1] += f" {word}"
        elif word not in _FUNCTION_WORDS:
            found.append(word)
        in_number = is_number
    return found


def _family_items(family: _Family, rng: random.Random, largest_number: int) -> Iterable[Item]:
    *templates, held_out_template = family.templates
    asked = {number_words(number) for number in range(largest_number + 1)}
    for slots, answer in family.facts:
        is_held_out = family.open and rng.random() < HELD_OUT_SHARE
        if family.open and not asked.issuperset(slots):
            continue
        if is_held_out:
            yield from (Item(family.kind, _fill(t, slots), answer, "unseen_fact") for t in templates)
            continue
        unseen = set()
        if not family.open:
            unseen = {t for t in templates if rng.random() < HELD_OUT_SHARE}
            unseen = set(
                sorted(unseen)[: len(templates) // 2]
            )  # a fact is always asked for in half of the ways at least
        for template in templates:
            split = "unseen_sentence" if template in unseen else "train"
            yield Item(family.kind, _fill(template, slots), answer, split)
        yield Item(family.kind, _fill(held_out_template, slots), answer, "unseen_template")


def _fill(template: str, slots: tuple[str, ...]) -> str:
    return _sentence(template.format(*slots))


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _families() -> list[_Family]:
    return [*_arithmetic(), *_numbers(), *_days(), *_months(), *_colours(), _opposites(), _names()]


def _arithmetic() -> list[_Family]:
    words = [number_words(n) for n in range(101)]
    sums = [(a, b) for a in range(51) for b in range(51)]
    differences = [(a, b) for a in range(51) for b in range(a + 1)]
    ask_sum = (
        "What is {0} plus {1}?",
        "How much is {0} plus {1}?",
        "Tell me {0} plus {1}.",
        "Please add {0} and {1}.",
        "Can you add {0} and {1}?",
        "What is the sum of {0} and {1}?",
        "What do you get if you add {0} and {1}?",
        "{0} plus {1} is what?",
        "Can you tell me how much {0} plus {1} is?",
    )
    ask_difference = (
        "What is {0} minus {1}?",
        "How much is {0} minus {1}?",
        "Tell me {0} minus {1}.",
        "Please subtract {1} from {0}.",
        "Can you subtract {1} from {0}?",
        "What is {0} take away {1}?",
        "What do you get if you take {1} from {0}?",
        "{0} minus {1} is what?",
        "Can you tell me how much {0} minus {1} is?",
    )
    return [
        _Family(
            "sum",
            ask_sum,
            [((words[a], words[b]), _sentence(f"{words[a]} plus {words[b]} is {words[a + b]}.")) for a, b in sums],
            open=True,
        ),
        _Family(
            "difference",
            ask_difference,
            [
                ((words[a], words[b]), _sentence(f"{words[a]} minus {words[b]} is {words[a - b]}."))
                for a, b in differences
            ],
            open=True,
        ),
    ]


def _neighbours(kind: str, side: str, pairs: Iterable[tuple[str, str]], is_open: bool = False) -> _Family:
    """What comes before or after something of a sequence; `kind` is also what the questions call it."""
    templates = (
        f"What {kind} comes {side} {{0}}?",
        f"Which {kind} comes {side} {{0}}?",
        f"What comes {side} {{0}}?",
        f"Which {kind} is {side} {{0}}?",
        f"What is the {kind} {side} {{0}}?",
        f"Tell me the {kind} {side} {{0}}.",
        f"Do you know what comes {side} {{0}}?",
        f"Can you tell me which {kind} comes {side} {{0}}?",
    )
    facts = [((here,), f"{_sentence(side)} {here} comes {there}.") for here, there in pairs]
    return _Family(kind, templates, facts, open=is_open)


def _numbers() -> list[_Family]:
    words = [number_words(n) for n in range(101)]
    return [
        _neighbours("number", "after", [(words[n], words[n + 1]) for n in range(100)], is_open=True),
        _neighbours("number", "before", [(words[n], words[n - 1]) for n in range(1, 100)], is_open=True),
    ]


def _around(sequence: list[str], step: int) -> list[tuple[str, str]]:
    return [(here, sequence[(i + step) % len(sequence)]) for i, here in enumerate(sequence)]


def _days() -> list[_Family]:
    tomorrow = (
        "If today is {0}, what day is tomorrow?",
        "If today is {0}, what is tomorrow?",
        "Today is {0}, what day is tomorrow?",
        "Today is {0}, what is tomorrow?",
        "What day is tomorrow if today is {0}?",
        "Tell me what day is tomorrow if today is {0}.",
        "Can you tell me what day is tomorrow if today is {0}?",
    )
    two_days = (
        "What day comes two days after {0}?",
        "Which day comes two days after {0}?",
        "What comes two days after {0}?",
        "Which day is two days after {0}?",
        "What is the day two days after {0}?",
        "Tell me the day two days after {0}.",
        "Can you tell me which day comes two days after {0}?",
    )
    yesterday = tuple(t.replace("is tomorrow", "was yesterday") for t in tomorrow)
    return [
        _neighbours("day", "after", _around(DAYS, 1)),
        _neighbours("day", "before", _around(DAYS, -1)),
        _Family("day", tomorrow, [((d,), f"If today is {d}, tomorrow is {n}.") for d, n in _around(DAYS, 1)]),
        _Family("day", yesterday, [((d,), f"If today is {d}, yesterday was {p}.") for d, p in _around(DAYS, -1)]),
        _Family("day", two_days, [((d,), f"Two days after {d} comes {n}.") for d, n in _around(DAYS, 2)]),
    ]


def _months() -> list[_Family]:
    return [
        _neighbours("month", "after", _around(MONTHS, 1)),
        _neighbours("month", "before", _around(MONTHS, -1)),
    ]


def _colours() -> list[_Family]:
    ask_colour = (
        "What colour is {0}?",
        "Which colour is {0}?",
        "What is the colour of {0}?",
        "Tell me the colour of {0}.",
        "Do you know the colour of {0}?",
        "Which colour does {0} have?",
        "What colour does {0} have?",
        "Can you tell me the colour of {0}?",
    )
    ask_mixture = (
        "What do {0} and {1} make?",
        "What colour do {0} and {1} make?",
        "Which colour do {0} and {1} make?",
        "What do you get if you mix {0} and {1}?",
        "What colour do you get if you mix {0} and {1}?",
        "Mix {0} and {1}.",
        "Please mix {0} and {1}.",
        "Can you mix {0} and {1}?",
    )
    things = [(thing, colour) for colour, listed in COLOURS.items() for thing in listed.split(", ")]
    mixtures = [(pair[::step], made) for pair, made in MIXTURES.items() for step in (1, -1)]
    return [
        _Family("colour", ask_colour, [((thing,), _sentence(f"{thing} is {colour}.")) for thing, colour in things]),
        _Family("mix", ask_mixture, [((a, b), _sentence(f"{a} and {b} make {made}.")) for (a, b), made in mixtures]),
    ]


def _opposites() -> _Family:
    ask = (
        "What is the opposite of {0}?",
        "Which word is the opposite of {0}?",
        "Tell me the opposite of {0}.",
        "Please tell me the opposite of {0}.",
        "Do you know the opposite of {0}?",
        "What word is the opposite of {0}?",
        "Say the opposite of {0}.",
        "Can you tell me the opposite of {0}?",
    )
    pairs = [tuple(pair.split()) for pair in OPPOSITES.split(", ")]
    both_ways = [*pairs, *((b, a) for a, b in pairs)]
    return _Family("opposite", ask, [((a,), f"The opposite of {a} is {b}.") for a, b in both_ways])


def _names() -> _Family:
    ask = (
        "My name is {0}.",
        "Hello, my name is {0}.",
        "Hi, my name is {0}.",
        "I am {0}.",
        "Hello, I am {0}.",
        "Hi, I am {0}.",
        "Hello, this is {0}.",
        "Hi, this is {0}.",
    )
    return _Family("name", ask, [((name,), f"Hello {name}, nice to meet you.") for name in NAMES])
