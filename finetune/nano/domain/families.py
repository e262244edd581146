"""
The kinds of question of nano's first version: sums, neighbours, days, months, colours, opposites and names, as
families of templates and facts.

Depends on texts and tables. Independent of what is held out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .spoken_numbers import number_words

DAYS = [
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
]  # fmt: skip
MONTHS = [
    "January", "February", "March", "April", "May", "June", "July", "August",
    "September", "October", "November", "December",
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
    "hot cold, big small, fast slow, up down, left right, black white, open closed, young old, happy sad, high low, "
    "long short, rich poor, strong weak, hard soft, light dark, full empty, early late, near far, clean dirty, "
    "wet dry, thick thin, wide narrow, loud quiet, good bad, true false, inside outside, above below, first last, "
    "sweet sour, easy difficult, safe dangerous, win lose, love hate, push pull, buy sell, laugh cry, always never, "
    "more less, north south, east west, smooth rough, cheap expensive, top bottom, front back, friend enemy, "
    "summer winter, war peace, give take"
)


def sentence(text: str) -> str:
    """Begin a text with a capital."""
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Family:
    """Facts (values for the templates' slots, and the answer) that share templates, of which the last is held out."""

    kind: str
    templates: tuple[str, ...]
    facts: Sequence[tuple[tuple[str, ...], str]]
    open: bool = False  # enough facts to hold out whole ones
    limited: bool = False  # the slots are numbers, of which only the smaller ones are asked for


def first_families() -> list[Family]:
    """All of them, in a fixed order: what is held out is drawn in this order."""
    return [*_arithmetic(), *_numbers(), *_days(), *_months(), *_colours(), _opposites(), _names()]


def _arithmetic() -> list[Family]:
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
        Family(
            "sum",
            ask_sum,
            [((words[a], words[b]), sentence(f"{words[a]} plus {words[b]} is {words[a + b]}.")) for a, b in sums],
            open=True,
            limited=True,
        ),
        Family(
            "difference",
            ask_difference,
            [
                ((words[a], words[b]), sentence(f"{words[a]} minus {words[b]} is {words[a - b]}."))
                for a, b in differences
            ],
            open=True,
            limited=True,
        ),
    ]


def _neighbours(kind: str, side: str, pairs: Iterable[tuple[str, str]], is_open: bool = False) -> Family:
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
    facts = [((here,), f"{sentence(side)} {here} comes {there}.") for here, there in pairs]
    return Family(kind, templates, facts, open=is_open, limited=is_open)


def _numbers() -> list[Family]:
    words = [number_words(n) for n in range(101)]
    return [
        _neighbours("number", "after", [(words[n], words[n + 1]) for n in range(100)], is_open=True),
        _neighbours("number", "before", [(words[n], words[n - 1]) for n in range(1, 100)], is_open=True),
    ]


def _around(sequence: list[str], step: int) -> list[tuple[str, str]]:
    return [(here, sequence[(i + step) % len(sequence)]) for i, here in enumerate(sequence)]


def _days() -> list[Family]:
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
        Family("day", tomorrow, [((d,), f"If today is {d}, tomorrow is {n}.") for d, n in _around(DAYS, 1)]),
        Family("day", yesterday, [((d,), f"If today is {d}, yesterday was {p}.") for d, p in _around(DAYS, -1)]),
        Family("day", two_days, [((d,), f"Two days after {d} comes {n}.") for d, n in _around(DAYS, 2)]),
    ]


def _months() -> list[Family]:
    return [
        _neighbours("month", "after", _around(MONTHS, 1)),
        _neighbours("month", "before", _around(MONTHS, -1)),
    ]


def _colours() -> list[Family]:
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
        Family("colour", ask_colour, [((thing,), sentence(f"{thing} is {colour}.")) for thing, colour in things]),
        Family("mix", ask_mixture, [((a, b), sentence(f"{a} and {b} make {made}.")) for (a, b), made in mixtures]),
    ]


def _opposites() -> Family:
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
    return Family("opposite", ask, [((a,), f"The opposite of {a} is {b}.") for a, b in both_ways])


def _names() -> Family:
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
    return Family("name", ask, [((name,), f"Hello {name}, nice to meet you.") for name in NAMES])
