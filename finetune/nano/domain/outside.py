"""
Questions about what nano cannot know, and its honest answer.

Depends on nothing. Independent of speech.
"""

import random

OUTSIDE_ANSWER = "I do not know that."
_SLOTS: dict[str, tuple[str, ...]] = {
    "when": (
        "today", "tomorrow", "this weekend", "tonight", "next week", "this afternoon", "on Sunday", "in the morning",
        "right now", "last night", "yesterday", "last year",
    ),
    "city": (
        "London", "New York", "Paris", "Berlin", "Chicago", "Madrid", "Sydney", "Boston", "my town", "the village",
        "San Francisco", "Moscow", "Toronto", "the mountains",
    ),
    "person": (
        "Albert Einstein", "the president", "the queen", "Mozart", "Shakespeare", "the king of Spain", "my neighbor",
        "the mayor", "Isaac Newton", "Picasso", "Cleopatra", "the prime minister", "my teacher", "Napoleon", "the boss",
        "Columbus", "Beethoven", "the first man on the moon", "Charles Darwin", "Marie Curie",
    ),
    "thing": (
        "a black hole", "gravity", "a volcano", "an atom", "photosynthesis", "a neuron", "a comet", "inflation",
        "the internet", "a transformer", "democracy", "a virus", "the big bang", "electricity", "a computer chip",
        "the meaning of life", "a rainbow", "love", "art", "a tax", "a guitar", "a passport", "a lawyer", "music",
        "a bridge", "the stock market", "a telescope", "an engine", "a battery", "philosophy",
    ),
    "topic": (
        "history", "the moon", "dinosaurs", "cars", "football", "the war", "your family", "politics", "movies",
        "the weather", "space", "trains", "the ocean floor", "ancient Egypt", "computers", "mountains", "science",
        "the news", "religion", "medicine", "the economy", "trees", "insects", "ships", "cooking", "ghosts",
    ),
    "dish": (
        "pasta", "a cake", "soup", "rice", "pancakes", "an omelette", "bread dough", "pizza", "a salad", "tea",
        "scrambled eggs", "a sandwich", "potatoes", "chicken curry", "cookies",
    ),
    "place": (
        "the airport", "the station", "a good restaurant", "the nearest hospital", "the library", "the bathroom",
        "the post office", "a pharmacy", "the museum", "the bus stop", "my office", "a hotel", "the bank", "the beach",
    ),
    "object": (
        "my keys", "my phone", "my glasses", "the remote control", "my wallet", "my other shoe", "the dog", "my hat",
    ),
    "goods": (
        "a ticket", "a new phone", "a house", "a liter of milk", "a bicycle", "a haircut", "a pair of shoes", "gold",
        "gas", "this shirt", "a cup of coffee", "a used car", "a flight to Rome",
    ),
    "game": (
        "the game", "the football match", "the world cup", "the race", "the election", "the tennis final",
        "the lottery",
        "the championship", "the war", "the match",
    ),
    "landmark": (
        "the Eiffel tower", "Mount Everest", "the tallest building", "the moon", "a giraffe", "the Statue of Liberty",
        "the Great Wall", "the bridge", "the Amazon river", "the pyramids", "the deepest lake",
    ),
    "music": (
        "some music", "jazz", "the radio", "my favorite song", "the Beatles", "a podcast", "something relaxing",
        "some rock and roll", "classical music", "the next track", "a movie",
    ),
    "task": (
        "a timer for ten minutes", "an alarm for six", "a reminder for Monday", "the volume to five", "the thermostat",
        "the table for dinner", "an appointment",
    ),
    "device": ("the lights", "the television", "the heating", "the oven", "the fan", "the kitchen lamp", "the music"),
    "language": ("French", "Spanish", "German", "Chinese", "Italian", "Latin", "Russian", "Japanese", "Greek"),
    "phrase": ("good morning", "thank you", "where is the train", "I love you", "water", "how much is it", "friend"),
    "event": (
        "the second world war", "the next train", "the movie", "the French revolution", "the concert", "my flight",
        "the next election", "the meeting", "school", "the moon landing", "the last ice age", "the party",
    ),
    "advice": (
        "wear", "cook tonight", "read next", "give my mother for her birthday", "do on Saturday", "study", "watch",
        "name my cat", "have for lunch", "say to my boss", "buy", "plant in the garden",
    ),
}  # fmt: skip
# The last template of each group is held out.
_TEMPLATES: tuple[tuple[str, ...], ...] = (
    ("What is the weather {when}?", "Will it rain {when}?", "Is it cold outside {when}?", "How warm is it {when}?"),
    ("What is the weather like in {city}?", "Is it raining in {city}?", "How many people live in {city}?",
     "What can I do in {city}?", "How do I get to {city}?", "How far is it to {city}?"),
    ("Who is {person}?", "Who was {person}?", "When was {person} born?", "How old is {person}?",
     "Where was {person} born?", "Tell me about {person}.", "What did {person} do?", "What is {person} famous for?"),
    ("What is {thing}?", "Explain {thing} to me.", "How does {thing} work?", "Can you explain {thing}?",
     "What do you know about {thing}?", "What does {thing} mean?"),
    ("Tell me about {topic}.", "Tell me something about {topic}.", "What do you think about {topic}?",
     "I want to talk about {topic}.", "Do you like {topic}?", "What do you know about {topic}?"),
    ("How do I make {dish}?", "How do you cook {dish}?", "Give me a recipe for {dish}.", "How long does {dish} take?",
     "What do I need for {dish}?"),
    ("Where is {place}?", "How do I get to {place}?", "Can you find {place}?", "When does {place} open?",
     "Is there {place} near here?", "Take me to {place}."),
    ("Where are {object}?", "Where did I put {object}?", "Have you seen {object}?", "Can you find {object}?"),
    ("How much does {goods} cost?", "What is the price of {goods}?", "Where can I buy {goods}?",
     "I want to buy {goods}.", "Is {goods} expensive?"),
    ("Who won {game}?", "Who will win {game}?", "What was the score of {game}?", "When is {game}?",
     "Did we win {game}?"),
    ("How tall is {landmark}?", "How high is {landmark}?", "How old is {landmark}?", "Where can I see {landmark}?",
     "How big is {landmark}?"),
    ("Play {music}.", "Please play {music}.", "Can you play {music}?", "Put on {music}.",
     "I want to listen to {music}."),
    ("Set {task}.", "Please set {task}.", "Can you set {task}?", "Could you set {task} for me?"),
    ("Turn on {device}.", "Turn off {device}.", "Can you switch off {device}?", "Please turn {device} down."),
    ("What is {phrase} in {language}?", "How do you say {phrase} in {language}?", "Translate {phrase} into {language}.",
     "Do you speak {language}?", "Say {phrase} in {language}."),
    ("When did {event} start?", "When does {event} start?", "How long was {event}?", "Why did {event} happen?",
     "When is {event}?", "When did {event} end?"),
    ("What should I {advice}?", "What would you {advice}?", "Help me decide what to {advice}.",
     "Do you have an idea what I should {advice}?"),
    ("Who wrote this book?", "Who wrote Romeo and Juliet?", "Who painted the Mona Lisa?", "Who invented the telephone?",
     "Who discovered America?", "Who sings this song?", "Who is calling?", "Who is on the phone?", "Who made this?"),
    ("What is in the news?", "What happened today?", "What is new?", "Read me the headlines.", "Any news?"),
    ("Call my mother.", "Call a taxi.", "Send a message to Anna.", "Write an email to my boss.", "Text my wife.",
     "Call the police.", "Phone the doctor."),
    ("Write me a poem.", "Tell me a story.", "Tell me a fairy tale.", "Write a letter for me.", "Read me a book.",
     "Sing the national anthem."),
    ("What is the date today?", "What time is it now?", "What is the time?", "What day is it today?",
     "What year is it?", "Which month do we have now?"),
    ("How do I fix my car?", "Why is the sky dark at night?", "Why do we dream?", "How do planes fly?",
     "Why is the sea salty?", "How do I lose weight?", "How can I sleep better?", "Why do cats purr?",
     "How do I tie a tie?", "What is wrong with my computer?"),
    ("What am I thinking?", "What is my name?", "Where am I?", "How old am I?", "What did I say yesterday?",
     "Do you remember me?", "What is my favorite food?", "When is my birthday?"),
    ("What is the square root of two?", "What is a hundred divided by seven?", "What is pi?", "Solve this equation.",
     "How many stars are there?", "What is a million times a million?"),
    ("How many people are there in the world?", "What is the largest animal?", "Which animal is the fastest?",
     "What is the longest river?", "What is the biggest country?", "How many bones do we have?"),
)  # fmt: skip
PER_TEMPLATE = 12


def outside_questions(held_out: bool = False, seed: int = 0) -> list[str]:
    """
    Questions whose right answer is `OUTSIDE_ANSWER`.

    Args:
        held_out (`bool`, *optional*, defaults to `False`): Those of the templates that are never trained on, instead
            of the others.
        seed (`int`, *optional*, defaults to 0): Of the choice of at most `PER_TEMPLATE` fillings of a template.

    Returns:
        `list[str]`: Distinct, in random order.
    """
    rng = random.Random(seed)
    found: dict[str, None] = {}
    for *trained, last in _TEMPLATES:
        for template in [last] if held_out else trained:
            fillings = list(_fillings(template))
            found.update(dict.fromkeys(rng.sample(fillings, min(PER_TEMPLATE, len(fillings)))))
    return rng.sample(list(found), len(found))


def _fillings(template: str) -> list[str]:
    texts = [template]
    for name, values in _SLOTS.items():
        if "{" + name + "}" in template:
            texts = [text.replace("{" + name + "}", value) for text in texts for value in values]
    return texts
