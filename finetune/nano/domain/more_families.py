"""
The kinds of question besides those of `families.py`: times tables, comparing and counting,
clock, units, calendar, capitals, letters and spelling, rhymes, animals and jokes.

Depends on texts and tables. Independent of what is held out.
"""

from itertools import pairwise

from .families import MONTHS, Family, sentence
from .spoken_numbers import number_words

ORDINALS = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
    "eleventh", "twelfth",
]  # fmt: skip
DAYS_OF_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
FEASTS = {"Christmas": "December", "Halloween": "October", "Thanksgiving": "November", "New Year": "January"}
UNITS = (  # one, many, parts of one, how many parts, how many of them are asked for
    ("minute", "minutes", "seconds", 60, 5),
    ("hour", "hours", "minutes", 60, 5),
    ("day", "days", "hours", 24, 5),
    ("week", "weeks", "days", 7, 8),
    ("year", "years", "months", 12, 6),
    ("year", "years", "weeks", 52, 2),
    ("century", "centuries", "years", 100, 5),
    ("foot", "feet", "inches", 12, 6),
    ("yard", "yards", "feet", 3, 8),
    ("meter", "meters", "centimeters", 100, 5),
    ("dollar", "dollars", "cents", 100, 5),
    ("gallon", "gallons", "pints", 8, 6),
    ("pound", "pounds", "ounces", 16, 5),
    ("dozen", "dozen", "eggs", 12, 6),
)
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid", "England": "London",
    "Ireland": "Dublin", "Portugal": "Lisbon", "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw",
    "Hungary": "Budapest", "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Russia": "Moscow", "Turkey": "Ankara", "Egypt": "Cairo", "Kenya": "Nairobi", "China": "Beijing", "Japan": "Tokyo",
    "Thailand": "Bangkok", "Australia": "Canberra", "Canada": "Ottawa", "Cuba": "Havana", "Peru": "Lima",
    "Chile": "Santiago", "Belgium": "Brussels", "Iraq": "Baghdad", "Lebanon": "Beirut",
}  # fmt: skip
SPELLED = (
    "cat dog hat sun box red cup egg ice key man map pig pen bed bus car cow fox hen jam leg milk moon book tree fish "
    "bird door hand king lamp rain ring road rose ship shoe snow star wolf apple bread chair clock cloud green horse "
    "house light mouse night queen river sheep table train water white world"
)
RHYMES = (
    "cat hat, dog fog, house mouse, tree bee, star car, moon spoon, cake lake, king ring, bear chair, fish dish, "
    "night light, rain train, boat goat, sun fun, bed red, book cook, ball wall, door floor, snow crow, nose rose, "
    "sand hand, corn horn, clock sock, shoe blue, bread head, gold cold, sheep sleep, day play, pen hen, game name"
)
ANIMALS = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "grunt", "bee": "buzz",
    "snake": "hiss", "bird": "tweet", "lion": "roar", "mouse": "squeak", "frog": "croak", "horse": "neigh",
}  # fmt: skip
JOKES = {
    "a cow": "Where do cows go on Friday night? To the movies.",
    "a ghost": "What fruit do ghosts like? A boo berry.",
    "a robot": "Why was the robot so tired? It had a hard drive.",
    "a fish": "Where do fish keep money? In the river bank.",
    "a bear": "What do you call a bear with no teeth? A gummy bear.",
    "a computer": "Why was the computer cold? It left its windows open.",
    "a clock": "Why was the clock so sad? It had no time.",
    "a book": "Why was the math book sad? It had too many problems.",
    "a banana": "Why did the banana see a doctor? It did not peel well.",
    "a tree": "What did the tree say in spring? What a relief.",
    "the ocean": "What did the ocean say to the beach? Nothing, it just waved.",
    "a cat": "What is a cat's favorite color? Purple.",
    "a dog": "What do you call a cold dog? A chili dog.",
    "an egg": "Why do eggs tell no jokes? They would crack up.",
    "the moon": "How does the moon cut his hair? Eclipse it.",
    "a snowman": "What does a snowman eat for lunch? An ice burger.",
}


def more_families() -> list[Family]:
    """All of them, in a fixed order: what is held out is drawn in this order, after those of `families.py`."""
    return [
        _products(),
        *_comparisons(),
        *_counting(),
        *_clock(),
        _units(),
        *_calendar(),
        *_capitals(),
        *_letters(),
        _spelling(),
        _rhymes(),
        _animals(),
        _jokes(),
    ]


def _products() -> Family:
    ask = (
        "What is {0} times {1}?",
        "How much is {0} times {1}?",
        "Tell me {0} times {1}.",
        "Please multiply {0} by {1}.",
        "Can you multiply {0} by {1}?",
        "What do you get if you multiply {0} by {1}?",
        "{0} times {1} is what?",
        "Can you tell me how much {0} times {1} is?",
    )
    words = [number_words(n) for n in range(101)]
    pairs = [(a, b) for a in range(1, 11) for b in range(1, 11)]
    return Family(
        "product",
        ask,
        [((words[a], words[b]), sentence(f"{words[a]} times {words[b]} is {words[a * b]}.")) for a, b in pairs],
    )


def _comparisons() -> list[Family]:
    words = [number_words(n) for n in range(21)]
    # each two numbers once, so that a pair that is held out is never asked the other way round
    pairs = [(a, b) for a in range(21) for b in range(21) if a != b and (a < b) == ((a + b) % 2 == 0)]
    found = []
    for quality, chosen, other in (("bigger", max, min), ("smaller", min, max)):
        ask = (
            f"Which is {quality}, {{0}} or {{1}}?",
            f"What is {quality}, {{0}} or {{1}}?",
            f"Which number is {quality}, {{0}} or {{1}}?",
            f"Tell me which is {quality}, {{0}} or {{1}}.",
            f"Is {{0}} or {{1}} {quality}?",
            f"Which of {{0}} and {{1}} is {quality}?",
            f"Can you tell me which is {quality}, {{0}} or {{1}}?",
        )
        facts = [
            ((words[a], words[b]), sentence(f"{words[chosen(a, b)]} is {quality} than {words[other(a, b)]}."))
            for a, b in pairs
        ]
        found.append(Family("compare", ask, facts, open=True))
    return found


def _counting() -> list[Family]:
    ask = (
        "Count from {0} to {1}.",
        "Please count from {0} to {1}.",
        "Can you count from {0} to {1}?",
        "Count for me from {0} to {1}.",
        "Tell me the numbers from {0} to {1}.",
        "Say the numbers from {0} to {1}.",
        "Which numbers are there from {0} to {1}?",
        "Can you tell me the numbers from {0} to {1}?",
    )
    pairs = [(a, b) for a in range(16) for b in range(16) if 2 <= abs(a - b) <= 5]
    facts = []
    for a, b in pairs:
        counted = range(a, b + 1) if a < b else range(a, b - 1, -1)
        facts.append(((number_words(a), number_words(b)), sentence(", ".join(map(number_words, counted)) + ".")))
    return [Family("count", ask, facts, open=True)]


def _clock() -> list[Family]:
    found = []
    for side, step in (("after", 1), ("before", -1)):
        ask = (
            f"What time is it {{0}} {side} {{1}} o'clock?",
            f"What time is {{0}} {side} {{1}} o'clock?",
            f"What is the time {{0}} {side} {{1}} o'clock?",
            f"Tell me the time {{0}} {side} {{1}} o'clock.",
            f"Which time is {{0}} {side} {{1}} o'clock?",
            f"What time comes {{0}} {side} {{1}} o'clock?",
            f"Do you know what time it is {{0}} {side} {{1}} o'clock?",
            f"Can you tell me the time {{0}} {side} {{1}} o'clock?",
        )
        facts = []
        for hours in (1, 2, 3):
            length = f"{number_words(hours)} hour" + ("s" if hours > 1 else "")
            for hour in range(1, 13):
                there = number_words((hour + step * hours - 1) % 12 + 1)
                here = number_words(hour)
                facts.append(((length, here), sentence(f"{length} {side} {here} o'clock it is {there} o'clock.")))
        found.append(Family("time", ask, facts))
    return found


def _units() -> Family:
    ask = (
        "How many {1} are in {0}?",
        "How many {1} make {0}?",
        "How many {1} are there in {0}?",
        "What is {0} in {1}?",
        "Tell me how many {1} are in {0}.",
        "How many {1} do you get from {0}?",
        "Do you know how many {1} are in {0}?",
        "Can you tell me how many {1} are in {0}?",
    )
    facts = []
    for one, many, parts, factor, most in UNITS:
        for count in range(1, most + 1):
            amount = f"{number_words(count)} {one if count == 1 else many}"
            verb = "is" if count == 1 else "are"
            facts.append(((amount, parts), sentence(f"{amount} {verb} {number_words(count * factor)} {parts}.")))
    return Family("unit", ask, facts)


def _calendar() -> list[Family]:
    ask_length = (
        "How many days are in {0}?",
        "How many days does {0} have?",
        "How many days are there in {0}?",
        "Tell me how many days {0} has.",
        "How long is {0}?",
        "Do you know how many days are in {0}?",
        "How many days has {0}?",
        "Can you tell me how many days {0} has?",
    )
    ask_ordinal = (
        "What is the {0} month of the year?",
        "Which is the {0} month of the year?",
        "Which month is the {0} of the year?",
        "Tell me the {0} month of the year.",
        "What is the {0} month?",
        "Which month is the {0} one?",
        "Do you know the {0} month of the year?",
        "Can you tell me the {0} month of the year?",
    )
    ask_feast = (
        "When is {0}?",
        "In which month is {0}?",
        "What month is {0} in?",
        "Which month is {0} in?",
        "Tell me when {0} is.",
        "Do you know when {0} is?",
        "Can you tell me when {0} is?",
    )
    lengths = [((m,), f"{m} has {number_words(d)} days.") for m, d in zip(MONTHS, DAYS_OF_MONTH, strict=True)]
    ordinals = [((o,), f"The {o} month is {m}.") for o, m in zip(ORDINALS, MONTHS, strict=True)]
    feasts = [((feast,), f"{feast} is in {month}.") for feast, month in FEASTS.items()]
    return [
        Family("calendar", ask_length, lengths),
        Family("calendar", ask_ordinal, ordinals),
        Family("calendar", ask_feast, feasts),
    ]


def _capitals() -> list[Family]:
    ask_capital = (
        "What is the capital of {0}?",
        "Which city is the capital of {0}?",
        "What city is the capital of {0}?",
        "Tell me the capital of {0}.",
        "Do you know the capital of {0}?",
        "Name the capital of {0}.",
        "What is the capital city of {0}?",
        "Can you tell me the capital of {0}?",
    )
    ask_country = (
        "Which country has the capital {0}?",
        "What country is {0} the capital of?",
        "Which country is {0} the capital of?",
        "{0} is the capital of which country?",
        "Tell me the country with the capital {0}.",
        "In which country is {0}?",
        "Can you tell me which country has the capital {0}?",
    )
    capitals = [((country,), f"The capital of {country} is {city}.") for country, city in CAPITALS.items()]
    countries = [((city,), f"{city} is the capital of {country}.") for country, city in CAPITALS.items()]
    return [Family("capital", ask_capital, capitals), Family("capital", ask_country, countries)]


def _letters() -> list[Family]:
    letters = [chr(ord("A") + i) for i in range(1, 26)]  # a voice says "A" as the article unless it ends the sentence
    found = []
    for side, pairs in (
        ("after", list(pairwise(letters))),
        ("before", [(here, there) for there, here in pairwise(["A", *letters])]),
    ):
        ask = (
            f"What letter comes {side} {{0}}?",
            f"Which letter comes {side} {{0}}?",
            f"Which letter is {side} {{0}}?",
            f"What is the letter {side} {{0}}?",
            f"Tell me the letter {side} {{0}}.",
            f"What letter is {side} {{0}}?",
            f"Do you know which letter comes {side} {{0}}?",
            f"Can you tell me which letter comes {side} {{0}}?",
        )
        facts = [((here,), f"{sentence(side)} the letter {here} comes {there}.") for here, there in pairs]
        found.append(Family("letter", ask, facts))
    return found


def _spelling() -> Family:
    ask = (
        "How do you spell {0}?",
        "How do I spell {0}?",
        "Spell the word {0}.",
        "Please spell {0}.",
        "Spell {0} for me.",
        "How is {0} spelled?",
        "Can you spell {0}?",
        "Can you tell me how to spell {0}?",
    )
    facts = [((w,), f"{sentence(w)} is spelled {', '.join(w.upper())}.") for w in SPELLED.split()]
    return Family("spelling", ask, facts)


def _rhymes() -> Family:
    ask = (
        "What rhymes with {0}?",
        "Which word rhymes with {0}?",
        "Tell me a word that rhymes with {0}.",
        "Give me a rhyme for {0}.",
        "Do you know a rhyme for {0}?",
        "What is a rhyme for {0}?",
        "Find a word that rhymes with {0}.",
        "Can you tell me a rhyme for {0}?",
    )
    found: dict[str, str] = {}
    for pair in RHYMES.split(", "):
        a, b = pair.split()
        found.setdefault(a, b)
        found.setdefault(b, a)
    return Family(
        "rhyme", ask, [((asked,), f"{sentence(rhyme)} rhymes with {asked}.") for asked, rhyme in found.items()]
    )


def _animals() -> Family:
    ask = (
        "What does a {0} say?",
        "What does the {0} say?",
        "What sound does a {0} make?",
        "Which sound does a {0} make?",
        "Tell me what a {0} says.",
        "How does a {0} sound?",
        "Do you know what a {0} says?",
        "Can you tell me what a {0} says?",
    )
    return Family("animal", ask, [((animal,), f"A {animal} says {sound}.") for animal, sound in ANIMALS.items()])


def _jokes() -> Family:
    ask = (
        "Tell me a joke about {0}.",
        "Do you know a joke about {0}?",
        "Please tell me a joke about {0}.",
        "I want a joke about {0}.",
        "Tell a joke about {0}.",
        "A joke about {0}, please.",
        "Give me a joke about {0}.",
        "Can you tell me a joke about {0}?",
    )
    return Family("joke", ask, [((topic,), joke) for topic, joke in JOKES.items()])
