"""
Other ways to ask for the facts of the domain, as people do: whole questions, half sentences, indirect ones.

`FREE_TEMPLATES` has a list of templates for each family, by the family's first template, with the same slots;
`NOUN_PHRASES` names what is asked for, to be carried by any of `CARRIERS`. They are for training only; a free template
that asks for a fact is never made for a fact that is held out.

Depends on nothing. Independent of speech.
"""

FREE_TEMPLATES: dict[str, tuple[str, ...]] = {
    "What is {0} plus {1}?": (
        "{0} plus {1}?", "{0} and {1}?", "{0} and {1} make what?", "{0} and {1} is what?", "What do {0} and {1} make?",
        "What does {0} plus {1} make?", "What would {0} plus {1} be?", "How much do {0} and {1} make?",
        "How much are {0} and {1} together?", "What is {0} and {1} together?", "What is {0} added to {1}?",
        "If you add {1} to {0}, what do you get?", "Add {1} to {0}.", "Add {0} and {1} up for me.",
        "Could you add up {0} and {1}?", "Could you please add {0} and {1} for me?", "Let us add {0} and {1}.",
        "I have {0} and get {1} more, how many do I have?", "If I have {0} and you give me {1}, how many is that?",
        "I need the sum of {0} and {1}.", "Give me the sum of {0} and {1}.", "{0} plus {1} equals?",
        "What does {0} plus {1} equal?", "{0} plus {1} makes?", "How many is {0} plus {1}?",
        "I want to know what {0} plus {1} is.", "Do you know what {0} plus {1} is?", "Work out {0} plus {1}.",
        "Calculate {0} plus {1}.", "What is the total of {0} and {1}?", "What do I get for {0} plus {1}?",
    ),
    "What is {0} minus {1}?": (
        "{0} minus {1}?", "{0} take away {1}?", "{0} less {1}?", "{0} minus {1} makes?", "{0} minus {1} equals?",
        "What would {0} minus {1} be?", "What does {0} minus {1} make?", "What is {0} less {1}?",
        "Take {1} away from {0}.", "Take {1} from {0}.", "Subtract {1} from {0} for me.",
        "Could you subtract {1} from {0}?", "If I take {1} from {0}, how much is left?",
        "If I have {0} and give away {1}, how many are left?", "I had {0} and lost {1}, how many do I have now?",
        "How much is left if you take {1} away from {0}?", "What is left of {0} without {1}?",
        "What remains if I take {1} from {0}?", "What is the difference between {0} and {1}?",
        "Give me {0} minus {1}.", "I need to know {0} minus {1}.", "Do you know what {0} minus {1} is?",
        "Work out {0} minus {1}.", "Calculate {0} minus {1}.", "What do I get for {0} minus {1}?",
        "How many are left when I take {1} from {0}?",
    ),
    "What number comes after {0}?": (
        "What comes right after {0}?", "What comes next after {0}?", "And after {0}?", "After {0} comes what?",
        "Which number follows {0}?", "What number follows {0}?", "What is the next number after {0}?",
        "What is one more than {0}?", "The number after {0}?", "Tell me what comes after {0}.",
        "When I count, what comes after {0}?", "What number is next after {0}?", "Give me the number after {0}.",
        "I am at {0}, which number is next?", "What number is right after {0}?", "{0}, and then?",
    ),
    "What number comes before {0}?": (
        "What comes right before {0}?", "What comes just before {0}?", "And before {0}?", "Before {0} comes what?",
        "What is one less than {0}?", "The number before {0}?", "Tell me what comes before {0}.",
        "When I count, what comes before {0}?", "Give me the number before {0}.", "What number is just before {0}?",
        "Which number is right before {0}?", "What was the number before {0}?",
    ),
    "What day comes after {0}?": (
        "What comes right after {0}?", "Which day follows {0}?", "What day follows {0}?", "The day after {0}?",
        "What day is it after {0}?", "After {0} comes which day?", "And after {0}?", "What is next after {0}?",
        "Which day is next after {0}?", "Tell me what comes after {0}.", "When {0} is over, what day is it?",
    ),
    "What day comes before {0}?": (
        "What comes right before {0}?", "The day before {0}?", "What day is it before {0}?", "And before {0}?",
        "What was the day before {0}?", "Before {0} comes which day?", "Which day is just before {0}?",
        "Tell me what comes before {0}.", "What day was it before {0}?",
    ),
    "If today is {0}, what day is tomorrow?": (
        "It is {0} today, what is tomorrow?", "It is {0} today, so what day is tomorrow?",
        "Today is {0}, and tomorrow?",
        "It is {0}, what will tomorrow be?", "If it is {0} today, what is it tomorrow?",
        "Tomorrow is what day if today is {0}?", "Today it is {0}, what day comes tomorrow?",
        "What will tomorrow be if today is {0}?", "Say today is {0}, what is tomorrow?",
    ),
    "If today is {0}, what day was yesterday?": (
        "It is {0} today, what was yesterday?", "It is {0} today, so what day was yesterday?",
        "Today is {0}, and yesterday?", "If it is {0} today, what was it yesterday?",
        "Yesterday was what day if today is {0}?", "It is {0}, what day did we have yesterday?",
        "Say today is {0}, what was yesterday?",
    ),
    "What day comes two days after {0}?": (
        "What day is it two days after {0}?", "Two days after {0}?", "What is two days after {0}?",
        "Which day is it two days after {0}?", "Two days after {0} it is what?",
    ),
    "What month comes after {0}?": (
        "What comes right after {0}?", "Which month follows {0}?", "What month follows {0}?", "The month after {0}?",
        "What month is it after {0}?", "After {0} comes which month?", "And after {0}?",
        "Which month is next after {0}?",
        "What is the next month after {0}?", "When {0} is over, what month is it?", "Tell me what comes after {0}.",
    ),
    "What month comes before {0}?": (
        "What comes right before {0}?", "The month before {0}?", "What month is it before {0}?", "And before {0}?",
        "Before {0} comes which month?", "Which month is just before {0}?", "What was the month before {0}?",
        "Tell me what comes before {0}.",
    ),
    "What colour is {0}?": (
        "{0} is what colour?", "Colour of {0}?", "The colour of {0}?", "What colour would you say {0} is?",
        "What is {0} like, what colour?", "What colour does {0} usually have?", "What colour is {0} usually?",
        "Tell me what colour {0} is.", "Do you know what colour {0} is?", "Which colour would {0} be?",
        "What colour would {0} be?", "I want to know the colour of {0}.", "{0}, which colour is it?",
        "Say the colour of {0}.", "In what colour do you see {0}?", "How would you paint {0}, in which colour?",
    ),
    "What do {0} and {1} make?": (
        "{0} and {1} make what?", "{0} mixed with {1}?", "What does {0} mixed with {1} make?",
        "What happens if I mix {0} and {1}?", "If I mix {0} with {1}, what do I get?",
        "What do you get when you mix {0} and {1} paint?", "Which colour comes out of {0} and {1}?",
        "I mix {0} and {1}, what colour is it?", "What colour is {0} with {1}?",
        "{0} and {1} together are which colour?",
        "What colour do I get from {0} and {1}?", "What is {0} and {1} mixed together?",
    ),
    "What is the opposite of {0}?": (
        "Opposite of {0}?", "The opposite of {0}?", "The opposite of {0} is?", "The opposite of {0} is what?",
        "Give me the opposite of {0}.", "What would be the opposite of {0}?", "What would the opposite of {0} be?",
        "Which word means the opposite of {0}?", "I need the opposite of {0}.", "If it is not {0}, what is it?",
        "What do you call the opposite of {0}?", "What word is opposite to {0}?", "{0}, and the opposite?",
        "I am looking for the opposite of {0}.", "Could you give me the opposite of {0}?", "Name the opposite of {0}.",
        "What is the contrary of {0}?", "Find the opposite of {0}.",
    ),
    "My name is {0}.": (
        "Hey, I am {0}.", "Hi there, I am {0}.", "Hi there, my name is {0}.", "Hello there, my name is {0}.",
        "People call me {0}.", "You can call me {0}.", "They call me {0}.", "Good morning, I am {0}.",
        "Good morning, my name is {0}.", "Good evening, my name is {0}.", "Hey, my name is {0}.", "Hey, this is {0}.",
        "This is {0} speaking.", "{0} is my name.", "Call me {0}.", "Nice to meet you, I am {0}.",
    ),
    "What is {0} times {1}?": (
        "{0} times {1}?", "{0} times {1} equals?", "{0} times {1} makes?", "What would {0} times {1} be?",
        "What does {0} times {1} make?", "Multiply {0} by {1}.", "Multiply {0} and {1} for me.",
        "What is {0} multiplied by {1}?", "What do I get when I multiply {0} by {1}?", "Give me {0} times {1}.",
        "If I multiply {0} with {1}, what is it?", "I need to know {0} times {1}.",
        "Do you know what {0} times {1} is?",
        "How many is {0} times {1}?", "Calculate {0} times {1}.", "Work out {0} times {1}.",
        "Could you multiply {0} by {1}?", "What is the product of {0} and {1}?", "{0} times {1}, quick!",
    ),
    "Which is bigger, {0} or {1}?": (
        "{0} or {1}, which is bigger?", "Which one is bigger, {0} or {1}?", "What is more, {0} or {1}?",
        "Which is more, {0} or {1}?", "Which is larger, {0} or {1}?", "Which number is larger, {0} or {1}?",
        "Who is bigger, {0} or {1}?", "The bigger one of {0} and {1}?", "What is the bigger number, {0} or {1}?",
        "Is {0} bigger or {1}?", "Do you know which is bigger, {0} or {1}?",
    ),
    "Which is smaller, {0} or {1}?": (
        "{0} or {1}, which is smaller?", "Which one is smaller, {0} or {1}?", "What is less, {0} or {1}?",
        "Which is less, {0} or {1}?", "The smaller one of {0} and {1}?", "What is the smaller number, {0} or {1}?",
        "Is {0} smaller or {1}?", "Do you know which is smaller, {0} or {1}?", "Which number is less, {0} or {1}?",
    ),
    "Count from {0} to {1}.": (
        "From {0} to {1}, please count.", "Could you count from {0} to {1}?", "Would you count from {0} to {1} for me?",
        "Start at {0} and count to {1}.", "Begin with {0} and count to {1}.", "Let me hear you count from {0} to {1}.",
        "How do you count from {0} to {1}?", "Count {0} to {1}.", "Go from {0} to {1}.", "Now count from {0} to {1}.",
        "Start counting at {0} and stop at {1}.", "Give me the numbers from {0} to {1}.",
    ),
    "What time is it {0} after {1} o'clock?": (
        "It is {1} o'clock, what time is it in {0}?", "It is {1} o'clock now, and in {0}?",
        "What time will it be {0} after {1} o'clock?", "What time will it be in {0} if it is {1} o'clock now?",
        "{0} after {1} o'clock, what time is that?", "If it is {1} o'clock, what time is it in {0}?",
        "{0} after {1} o'clock?", "What is {0} after {1} o'clock?", "What time is {0} later than {1} o'clock?",
    ),
    "What time is it {0} before {1} o'clock?": (
        "It is {1} o'clock, what time was it {0} ago?", "What time was it {0} before {1} o'clock?",
        "{0} before {1} o'clock, what time is that?", "If it is {1} o'clock, what time was it {0} ago?",
        "{0} before {1} o'clock?", "What is {0} before {1} o'clock?", "What time is {0} earlier than {1} o'clock?",
    ),
    "How many {1} are in {0}?": (
        "How many {1} is {0}?", "How many {1} has {0}?", "How many {1} does {0} have?", "{0} is how many {1}?",
        "{0} has how many {1}?", "How many {1} has {0} got?", "How many {1} are {0}?", "What is {0} counted in {1}?",
        "{0} in {1}?", "How many {1} do {0} make?", "If I have {0}, how many {1} is that?",
        "How many {1} go into {0}?", "I need to know how many {1} are in {0}.", "Give me {0} in {1}.",
    ),
    "How many days are in {0}?": (
        "{0} has how many days?", "How many days has {0} got?", "How many days is {0}?", "How many days long is {0}?",
        "The number of days in {0}?", "Days in {0}?", "What is the number of days in {0}?",
        "Is {0} long, how many days?",
        "How long does {0} last?", "How many days will {0} have?", "I need to know how many days {0} has.",
    ),
    "What is the {0} month of the year?": (
        "Which month is the {0}?", "What month is the {0} one?", "The {0} month?", "The {0} month of the year is?",
        "Name the {0} month of the year.", "Name the {0} month.", "What month comes {0} in the year?",
        "Give me the {0} month.", "Which month is number {0}, the {0}?",
    ),
    "When is {0}?": (
        "{0} is when?", "{0} is in which month?", "What month is {0}?", "Which month has {0}?", "In what month is {0}?",
        "When do we have {0}?", "When do people have {0}?", "When does {0} come?", "I forgot when {0} is.",
        "In which month do we celebrate {0}?", "When do you celebrate {0}?", "Which month is {0}?",
    ),
    "What is the capital of {0}?": (
        "Capital of {0}?", "The capital of {0}?", "{0}'s capital?", "What is {0}'s capital?", "{0}'s capital city?",
        "What is {0}'s capital city?", "The capital of {0} is?", "The capital of {0} is what?",
        "{0}, what is the capital?",
        "I forgot the capital of {0}.", "Which city is {0}'s capital?", "What is the main city of {0}?",
        "Give me the capital of {0}.", "I am looking for the capital of {0}.", "Which is the capital city of {0}?",
        "What is the name of the capital of {0}?", "Where is the government of {0}, in which city?",
        "What do they call the capital of {0}?", "I need the capital of {0}.",
    ),
    "Which country has the capital {0}?": (
        "Where is {0}?", "Which country is {0} in?", "What country is {0} in?", "In what country is {0}?",
        "{0} is in which country?", "{0} is the capital of what?", "{0}, what country is that?",
        "What is {0} the capital of?", "To which country belongs {0}?", "{0} is where?",
        "Of which country is {0} the capital?",
        "Where do I find {0}?", "{0} is a capital, of which country?",
    ),
    "What letter comes after {0}?": (
        "After {0} comes which letter?", "What comes after the letter {0}?", "The letter after {0}?",
        "And after the letter {0}?",
        "Which letter follows {0}?", "What letter follows {0}?", "What is the next letter after {0}?",
        "In the alphabet, what comes after {0}?", "What comes after {0} in the alphabet?",
        "Which letter is next after {0}?", "Give me the letter after {0}.",
    ),
    "What letter comes before {0}?": (
        "Before {0} comes which letter?", "What comes before the letter {0}?", "The letter before {0}?",
        "And before the letter {0}?", "In the alphabet, what comes before {0}?",
        "What comes before {0} in the alphabet?", "Which letter is just before {0}?", "Give me the letter before {0}.",
    ),
    "How do you spell {0}?": (
        "Spelling of {0}?", "{0}, how do you spell that?", "{0}, how is that spelled?", "Could you spell {0} for me?",
        "Would you spell {0}, please?", "I do not know how to spell {0}.", "I am not sure how to spell {0}.",
        "How do you write {0}?", "How is {0} written?", "How do I write {0}?", "Which letters are in {0}?",
        "What letters does {0} have?", "Letters of {0}?", "Spell {0}.", "Tell me how to spell {0}.",
        "How would you spell {0}?", "I need the spelling of {0}.", "Please spell the word {0} for me.",
    ),
    "What rhymes with {0}?": (
        "A rhyme for {0}?", "Rhyme with {0}?", "Something that rhymes with {0}?",
        "I need something that rhymes with {0}.",
        "I need a rhyme for {0}.", "I am looking for a rhyme for {0}.", "What would rhyme with {0}?",
        "What word would rhyme with {0}?", "Could you find a rhyme for {0}?", "Give me a word that rhymes with {0}.",
        "Tell me something that rhymes with {0}.", "What can I rhyme with {0}?", "What sounds like {0}?",
        "Do you know something that rhymes with {0}?", "Can you find a word that rhymes with {0}?",
    ),
    "What does a {0} say?": (
        "And a {0}?", "And a {0}, what does it say?", "How does a {0} go?", "What noise does a {0} make?",
        "Which noise does a {0} make?", "What noise do you hear from a {0}?", "What does a {0} do, how does it sound?",
        "Make the sound of a {0}.", "Can you make the sound of a {0}?", "How does the {0} go?", "The {0} says what?",
        "A {0} says?", "What do you hear when a {0} talks?", "What sound does the {0} make?", "Speak like a {0}.",
        "Talk like a {0}.", "What does a {0} sound like?",
    ),
    "Tell me a joke about {0}.": (
        "A joke about {0}?", "Joke about {0}?", "Do you have a joke about {0}?", "Do you have one about {0}?",
        "Know any jokes about {0}?", "Do you know any jokes about {0}?", "Got a joke about {0}?",
        "Say something funny about {0}.", "Tell me something funny about {0}.", "Make a joke about {0}.",
        "I would like to hear a joke about {0}.", "Let me hear a joke about {0}.",
        "Could you tell me a joke about {0}?",
        "Make me laugh with {0}.",
    ),
}  # fmt: skip

FREE_TALK: dict[str, tuple[str, ...]] = {
    "Hello, how can I help you?": (
        "Hey.", "Hey there.", "Hello nano.", "Hey nano.", "Hi nano.", "Hello, hello.", "Hi you.",
    ),
    "Good morning, how can I help you?": ("Morning.", "Good morning nano.", "Good morning to you nano."),
    "Good evening, how can I help you?": ("Evening.", "Good evening nano."),
    "I am fine, thank you.": (
        "Hi, how are you?", "Hey, how are you?", "Hi there, how are you?", "How are you feeling?", "How is it going?",
        "How are things?", "Hello, how are you doing?", "How do you do?", "Are you okay?", "And how are you?",
        "Hi, how are you doing today?", "How are you feeling today?", "How have you been?",
    ),
    "My name is Nano.": (
        "What is your name please?", "What was your name?", "What do they call you?", "What should I call you?",
        "How are you called?", "Could you tell me your name?", "May I ask your name?", "And who are you?",
        "Who am I talking to?", "Who is this?", "Who is there?", "What are you called then?", "So, what is your name?",
    ),
    "I am a small talking computer.": (
        "Are you a machine?", "Are you human?", "Are you real?", "What kind of thing are you?",
        "Are you a real person?",
        "Are you a computer or a person?", "So what are you?",
    ),
    "I can add, subtract and answer questions.": (
        "What are you able to do?", "What can you help me with?", "So what can you do?", "What do you do?",
        "What are you good at?", "What things can you do?", "What else can you do?", "Tell me, what can you do?",
        "What can you do for me?", "What are you for?",
    ),
    "I live inside your computer.": (
        "Where are you now?", "Where can I find you?", "In which place do you live?", "So where do you live?",
    ),
    "I am very young.": (
        "How old are you then?", "What age are you?", "When were you born?", "How many years old are you?",
    ),
    "Yes, I can hear you.": (
        "Hello, do you hear me?", "Are you listening?", "Hey, are you there?", "Can you hear me now?",
        "Is anybody there?",
        "Hello, can you hear me now?", "Can you understand me?", "Do you understand me?", "Testing, can you hear me?",
    ),
    "Why do birds fly south? It is too far to walk.": (
        "Know any jokes?", "Do you know any jokes?", "Got a joke?", "Tell me another joke.", "I want to hear a joke.",
        "A joke, please.", "Could you tell me a joke?", "Give me a joke.", "Please make me laugh.", "Joke, please.",
    ),
    "I am happy to hear that.": (
        "I am very happy today.", "I am doing well.", "I feel great.", "Life is good.", "Today was a good day.",
    ),
    "I am sorry to hear that.": (
        "I feel sad.", "I am not feeling well.", "I am very tired.", "I am not happy.", "Today was a bad day.",
    ),
    "Nice to meet you too.": ("It is a pleasure to meet you.", "Very nice to meet you.", "Good to see you."),
    "Goodbye, see you soon.": (
        "Bye nano.", "Bye for now.", "Goodbye nano.", "Okay, bye.", "I have to go.", "I must go now.", "See you.",
        "See you tomorrow.", "Bye, see you later.", "Well, goodbye then.",
    ),
    "Good night, sleep well.": ("Good night nano.", "Night night.", "I am going to bed, good night."),
    "You are welcome.": (
        "Thanks so much.", "Thank you so much.", "Okay, thank you.", "Thank you nano.", "Great, thanks.",
        "Thanks, nano.",
        "Thanks for your help.", "Thank you for your help.", "Thanks, that was helpful.", "Cool, thanks.",
    ),
    "No problem.": ("I am so sorry.", "Sorry about that.", "My mistake, sorry."),
    "Thank you, that is kind.": (
        "You are very good.", "You are clever.", "Well done.", "Good job.", "I love you.", "You are really nice.",
    ),
    "My favorite color is blue.": (
        "Do you have a favorite color?", "What color do you like best?", "Which color is your favorite?",
    ),
    "My favorite number is seven.": (
        "Do you have a favorite number?", "What number do you like best?", "Which number is your favorite?",
    ),
    "You can ask me about numbers, days and words.": (
        "What can I ask?", "What can I ask you about?", "What should I ask you?", "What do you want me to ask?",
        "What can we talk about?", "I need help.", "Can you help me?", "What questions can I ask?",
    ),
    "Yes, I speak English.": ("Do you understand English?", "Are you speaking English?", "Is English your language?"),
    "I can not sing, but I can count.": ("Can you sing a song for me?", "Sing for me.", "Please sing something."),
    "I never sleep.": ("Do you ever sleep?", "Did you sleep well?", "Are you sleeping?"),
    "I was made from words and sound.": (
        "Who built you?", "Who created you?", "How did they make you?", "Who is your maker?",
    ),
    "I do not eat, but I like to hear about food.": (
        "What do you like to eat?", "Do you eat?", "Are you hungry now?", "Do you want something to eat?",
    ),
    "I like to talk with you.": ("Do you like talking?", "What do you like to do?", "What do you like doing?"),
}  # fmt: skip

NOUN_PHRASES: dict[str, tuple[str, ...]] = {
    "What is {0} plus {1}?": ("{0} plus {1}", "the sum of {0} and {1}", "{0} and {1} together"),
    "What is {0} minus {1}?": ("{0} minus {1}", "{0} take away {1}", "the difference between {0} and {1}"),
    "What number comes after {0}?": ("the number after {0}", "the next number after {0}", "the number right after {0}"),
    "What number comes before {0}?": ("the number before {0}", "the number right before {0}"),
    "What day comes after {0}?": ("the day after {0}", "the weekday after {0}", "the day that comes after {0}"),
    "What day comes before {0}?": ("the day before {0}", "the day that comes before {0}"),
    "If today is {0}, what day is tomorrow?": ("tomorrow's day if today is {0}", "the day tomorrow when today is {0}"),
    "If today is {0}, what day was yesterday?": (
        "yesterday's day if today is {0}", "the day it was yesterday when today is {0}",
    ),
    "What day comes two days after {0}?": ("the day two days after {0}",),
    "What month comes after {0}?": ("the month after {0}", "the next month after {0}", "the month that follows {0}"),
    "What month comes before {0}?": ("the month before {0}", "the month right before {0}"),
    "What colour is {0}?": ("the colour of {0}", "the usual colour of {0}", "the colour that {0} has"),
    "What do {0} and {1} make?": (
        "the colour you get from {0} and {1}", "the mix of {0} and {1}", "the mixture of {0} and {1}",
    ),
    "What is the opposite of {0}?": (
        "the opposite of {0}", "the word for the opposite of {0}", "a word that means the opposite of {0}",
    ),
    "What is {0} times {1}?": ("{0} times {1}", "{0} multiplied by {1}", "the product of {0} and {1}"),
    "Which is bigger, {0} or {1}?": ("the bigger one of {0} and {1}", "the bigger number, {0} or {1}"),
    "Which is smaller, {0} or {1}?": ("the smaller one of {0} and {1}", "the smaller number, {0} or {1}"),
    "Count from {0} to {1}.": ("the numbers from {0} to {1}", "all the numbers between {0} and {1}"),
    "What time is it {0} after {1} o'clock?": (
        "the time {0} after {1} o'clock", "the time it will be {0} after {1} o'clock",
    ),
    "What time is it {0} before {1} o'clock?": (
        "the time {0} before {1} o'clock", "the time it was {0} before {1} o'clock",
    ),
    "How many {1} are in {0}?": (
        "the number of {1} in {0}", "how many {1} are in {0}", "how many {1} there are in {0}",
    ),
    "How many days are in {0}?": (
        "the number of days in {0}", "how many days {0} has", "how many days there are in {0}",
    ),
    "What is the {0} month of the year?": ("the {0} month of the year", "the {0} month", "the name of the {0} month"),
    "When is {0}?": ("the month of {0}", "the month in which {0} is", "when {0} is", "what month {0} is in"),
    "What is the capital of {0}?": (
        "the capital of {0}", "{0}'s capital", "the capital city of {0}", "the name of {0}'s capital",
    ),
    "Which country has the capital {0}?": (
        "the country that {0} is in", "the country whose capital is {0}", "which country {0} belongs to",
    ),
    "What letter comes after {0}?": (
        "the letter after {0}", "the letter that comes after {0}", "the next letter after {0}",
    ),
    "What letter comes before {0}?": ("the letter before {0}", "the letter that comes before {0}"),
    "How do you spell {0}?": (
        "the spelling of {0}", "how to spell {0}", "the letters of the word {0}", "how to write {0}",
        "how {0} is spelled",
    ),
    "What rhymes with {0}?": ("a rhyme for {0}", "a word that rhymes with {0}", "something that rhymes with {0}"),
    "What does a {0} say?": (
        "the sound of a {0}", "the noise a {0} makes", "the sound that a {0} makes", "what a {0} says",
    ),
    "Tell me a joke about {0}.": ("a joke about {0}", "a good joke about {0}", "something funny about {0}"),
}  # fmt: skip
CARRIERS: tuple[str, ...] = (
    "I am trying to remember {}.", "Can you remind me of {}?", "Do you know {}?", "Tell me {} quickly.",
    "My son wants to know {}.", "My daughter asked me for {}.", "I need {} for my homework.",
    "Remind me of {}, please.",
    "Would you happen to know {}?", "I cannot remember {}.", "I can't remember {}.", "I keep forgetting {}.",
    "Quick, {}!", "Let's see, {}?", "I have a question about {}.", "Help me with {}, please.", "Mind telling me {}?",
    "Give me {}, would you?", "I'd love to know {}.", "I would love to hear {}.", "Do you have any idea of {}?",
    "I was wondering about {}.", "Somebody asked me about {}.", "Could you give me {}?", "Could you tell me {} please?",
    "Let me know {}.", "I want to know {}.", "I need to know {}.", "I'm curious about {}.", "I'm not sure about {}.",
    "Can you help me with {}?", "Can you find {} for me?", "I'm looking for {}.", "Please give me {}.",
    "I forgot {}, can you tell me?", "You know {}, right?", "Say {} for me.", "Just {}, please.", "How about {}?",
    "And {}?", "Okay, so {}?", "I bet you know {}.", "Nano, {}?", "Hey nano, tell me {}.",
    "What can you tell me about {}?",
    "I'd like {}.", "We need {} here.", "Think about {} for me.", "I really need {}.", "Any idea about {}?",
)  # fmt: skip
QUESTION_CARRIERS: tuple[str, ...] = (  # of noun phrases that can be asked for with "what is"
    "What was {} again?", "What would {} be?", "So what is {}?", "What's {}?", "What's {} then?", "Tell me what {} is.",
    "Do you have any idea what {} is?", "I was wondering what {} is.", "Somebody asked me what {} is.",
    "I wonder what {} is.", "I'd like to know what {} is.", "Can you tell me what {} would be?", "And what is {}?",
    "Could you say what {} is?", "What do you think {} is?", "Guess what {} is.", "Remind me, what's {}?",
    "My teacher asked what {} is.", "I forgot what {} is.", "What exactly is {}?", "Then what is {}?",
)  # fmt: skip
