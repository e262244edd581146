"""
Questions as people ask them: contractions, politeness, hesitation, half sentences.

`freely_worded` varies the plain questions of the domain, for training. `FREELY_WORDED_TEST` was written by hand, is
never trained on, and no rule here was made after it.

Depends on the kinds of question of `domain.py`. Independent of speech.
"""

import random
import re

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
    Put a plain question as somebody might say it.

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


FREELY_WORDED_TEST = (  # question, kind, answer
    ("What's seven plus five?", "sum", "Seven plus five is twelve."),
    ("Hey, could you add up six and nine for me?", "sum", "Six plus nine is fifteen."),
    ("Four and four, that makes what?", "sum", "Four plus four is eight."),
    ("I need to know what eleven plus two is.", "sum", "Eleven plus two is thirteen."),
    ("If I have three and get ten more, how many is that?", "sum", "Three plus ten is thirteen."),
    ("What's fifteen minus six?", "difference", "Fifteen minus six is nine."),
    ("Take four away from twelve, please.", "difference", "Twelve minus four is eight."),
    ("How much is left if I take two from nine?", "difference", "Nine minus two is seven."),
    ("So what would three times eight be?", "product", "Three times eight is twenty four."),
    ("Six times seven, quickly!", "product", "Six times seven is forty two."),
    ("What do I get when I multiply five by nine?", "product", "Five times nine is forty five."),
    ("Hey, capital of Italy?", "capital", "The capital of Italy is Rome."),
    ("What's France's capital city?", "capital", "The capital of France is Paris."),
    ("Do you happen to know the capital of Japan?", "capital", "The capital of Japan is Tokyo."),
    ("I forgot the capital of Poland, what is it?", "capital", "The capital of Poland is Warsaw."),
    ("Which country is Cairo in?", "capital", "Cairo is the capital of Egypt."),
    ("What's the opposite of hot?", "opposite", "The opposite of hot is cold."),
    ("Give me the opposite of early, will you?", "opposite", "The opposite of early is late."),
    ("What would be the opposite of rich?", "opposite", "The opposite of rich is poor."),
    ("The opposite of up is?", "opposite", "The opposite of up is down."),
    ("What colour would you say the sky is?", "colour", "The sky is blue."),
    ("Um, what's the colour of a lemon?", "colour", "A lemon is yellow."),
    ("Tell me, what colour would snow be?", "colour", "Snow is white."),
    ("What colour's grass?", "colour", "Grass is green."),
    ("What do you get when you mix blue and yellow paint?", "mix", "Blue and yellow make green."),
    ("Which day is it after Monday?", "day", "After Monday comes Tuesday."),
    ("It's Friday today, so what's tomorrow?", "day", "If today is Friday, tomorrow is Saturday."),
    ("What comes right after Wednesday?", "day", "After Wednesday comes Thursday."),
    ("What month is after June?", "month", "After June comes July."),
    ("What's the month before March?", "month", "Before March comes February."),
    ("What number is after nineteen?", "number", "After nineteen comes twenty."),
    ("What's the number just before eight?", "number", "Before eight comes seven."),
    ("Which one's bigger, nine or four?", "compare", "Nine is bigger than four."),
    ("How many minutes are there in an hour?", "unit", "One hour is sixty minutes."),
    ("How many days has one week got?", "unit", "One week is seven days."),
    ("How many days are there in April?", "calendar", "April has thirty days."),
    ("When's Christmas?", "calendar", "Christmas is in December."),
    ("I'm not sure how to spell house, are you?", "spelling", "House is spelled H, O, U, S, E."),
    ("Could you spell bread for me?", "spelling", "Bread is spelled B, R, E, A, D."),
    ("I need something that rhymes with cat.", "rhyme", "Hat rhymes with cat."),
    ("What noise does a cow make?", "animal", "A cow says moo."),
    ("And a duck, what does it say?", "animal", "A duck says quack."),
    ("Tell me a joke about a fish, please.", "joke", "Where do fish keep money? In the river bank."),
    ("Hi there, how are you today?", "talk", "I am fine, thank you."),
    ("What's your name?", "talk", "My name is Nano."),
    ("Thanks a lot!", "talk", "You are welcome."),
    ("Hello, can you hear me now?", "talk", "Yes, I can hear you."),
    ("So what can you do?", "talk", "I can add, subtract and answer questions."),
)  # fmt: skip
