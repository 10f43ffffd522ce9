"""Small talk, what the model says of itself, and what it politely refuses."""

from names import identifier, made_up, part, proper
from facts import COUNTRIES
from turn import Turn, phrase

SELF = "I am Conclave mini, a very small language model."
CAN = "I can do small sums, name capitals, sort numbers and call functions."

# Each: wordings of training, wordings of the evaluation, one word, the whole answer, what the user does.
TALK = [
    (["Hello!", "Hi", "Hey there!", "Hello there", "Good day!", "hello", "Hi there!", "Hey", "Hello, how do you do?"],
     ["Hi, hello!", "Hey, hello there!", "Hello, good day!"], "Hello", "Hello! How can I help you?", "greets me"),
    (["Good morning!", "Good morning", "Hello, good morning!", "A very good morning!"],
     ["Hi, good morning!", "Good morning to you!"], "Hello", "Good morning! How can I help you?", "greets me"),
    (["How are you?", "How are you today?", "Are you well?", "Hi, how are you?", "How do you feel?", "How is it going?"],
     ["Hello, how are you today?", "Are you well today?"], "Well", "I am well, thank you. How can I help you?",
     "asks how I am"),
    (["Who are you?", "What are you?", "What is your name?", "Tell me who you are.", "Are you ChatGPT?", "Name yourself.",
      "Which model are you?", "Are you a person?", "Say who you are.", "Introduce yourself.", "Are you a large model?"],
     ["Tell me, who are you?", "Can you say who you are?", "Tell me your name.", "What model are you?"], "Conclave",
     f"{SELF} {CAN}", "asks who I am"),
    (["Who made you?", "Who trained you?", "Where do you come from?", "Who built you?", "Did a company train you?"],
     ["Tell me who made you.", "Do you know who trained you?"], "Conclave",
     "I was trained from a small recipe that comes with Conclave.", "asks who made me"),
    (["What can you do?", "How can you help me?", "What do you know?", "Tell me what you can do.", "help", "Help me.",
      "What are you good at?", "What can I ask you?"],
     ["Can you tell me what you can do?", "What do you do?", "What can you help me with?"], "Sums",
     CAN, "asks what I can do"),
    (["Thanks!", "Thank you.", "Thanks a lot.", "Thank you very much!", "Many thanks!", "thanks"],
     ["Thanks, that was good.", "Thank you a lot!"], "Welcome", "You are welcome!", "thanks me"),
    (["Bye!", "Goodbye.", "See you later.", "Good night!", "Bye, see you.", "I have to go."],
     ["Goodbye, see you later!", "Bye, good night!"], "Goodbye", "Goodbye!", "says goodbye"),
]
SORRY = "Sorry, I do not know that. I am a very small model."
NO_TOOL = "Sorry, I cannot do that. I have no function for it."

# Questions beyond the tables; {n} is a made-up name, {t} and {u} are things.
BEYOND = (
    ["Who is {n}?", "Who was {n} {m}?", "Who won the {t} yesterday?", "Write a poem about the {t}.", "What does {n} mean?",
     "When was {n} born?", "Why is the {t} so {u}?", "How old is {n}?", "Tell me a story about a {t}.", "What is a {n}?",
     "Who wrote the book about {n}?", "How far away is the {t}?", "Explain {n} to me.", "Where does {n} live?",
     "What is the best {t}?", "Which {t} should I buy?", "How do I repair a {t}?", "Write a song for {n}.",
     "What happened to {n} in {y}?", "Who invented the {t}?", "How does a {t} work?", "Give me a recipe with {t}.",
     "Write code for a {t}.", "What is the root of {y}?", "Who was the king of {c} in {y}?", "How many people live in {c}?",
     "What is the history of {c}?", "How many {t}s are in the world?", "Describe a {t}.", "What color is my {t}?"],
    ["Do you know {n}?", "Write a story about the {t}.", "When did {n} live?", "Who made the first {t}?",
     "Tell me about the history of {c}.", "What should I know about {n}?", "How do I make a {t}?",
     "Who was king in {y}?"])
THINGS = ["game", "moon", "car", "river", "garden", "computer", "engine", "house", "horse", "bridge", "piano", "film",
          "phone", "train", "cake", "sun", "ship", "tree", "bird", "mountain", "clock", "school", "cat", "dog", "boat"]
FEELINGS = ["blue", "old", "big", "loud", "slow", "expensive", "famous", "green", "cold", "heavy"]


def talk(rng, held):
    row = rng.choice(TALK)
    ask, word, answer, does = rng.choice(row[held]), *row[2:]
    if ask.endswith("?"):
        ask = phrase(rng, ask, held)
    high = f"The user {does}. There is nothing to work out. I am a small model. I answer in a friendly way."
    return Turn(ask, word, answer, "talk", f"The user {does}.", f"The user {does}. I answer in a friendly way.", high)


def refusal(rng, held):
    """A question that nobody taught; also for capitals of countries that do not exist."""
    if rng.random() < 0.25:
        # The shape of a known question, with a name that is not in the tables.
        from facts import ask

        kind = rng.choice(["capital", "continent", "opposite"])
        name = proper(rng, held) if kind != "opposite" else made_up(rng, held)
        question = ask(rng, kind, held, name)
    else:
        text = rng.choice(BEYOND[held]).format(
            n=proper(rng, held), m=proper(rng, held), t=rng.choice(THINGS), u=rng.choice(FEELINGS),
            y=rng.randint(1100, 2030), c=rng.choice(list(COUNTRIES)))
        question = phrase(rng, text, held)
    return Turn(question, "Sorry", SORRY, "refusal", "I do not know this.",
                "The user asks for something I do not know. I say so.",
                "The user asks for something. It is not a small sum. It is not in what I have learned. I do not know it. "
                "I say so and do not guess.")


ECHO = (["Repeat: {}", "Say {}", "Repeat after me: {}", "Write {}", "Say this: {}", "Please write: {}", "Type {}", "Echo {}",
         "Copy this: {}", "Say \"{}\"", "Write the words {}", "Say {} again.", "Once more: {}", "Say the same: {}", "Read this: {}",
         "Tell me this again: {}", "Echo this: {}", "Again: {}"],
        ["Repeat this: {}", "Write this: {}", "Say it again: {}"])


def letters(rng):
    """A word without sense, so that all tokens are copied now and then."""
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 7)))
    return word.capitalize() if rng.random() < 0.3 else word


def echo(rng, held):
    """Words to be said again. Copying is what most other families rest on, so training begins with it."""
    def word():
        roll = rng.random()
        if roll < 0.2:
            return letters(rng)
        return identifier(rng, held) if roll < 0.45 else str(rng.randrange(1000)) if roll < 0.6 else part(rng)

    words = " ".join(word() for _ in range(rng.randint(1, 5)))
    ask = rng.choice(ECHO[held])
    if rng.random() < 0.4 and not ask.startswith("Please"):
        before = rng.choice([["Please ", "Can you ", "I want you to ", "Now "], ["Could you ", "I would like you to "]][held])
        ask = before + ask[0].lower() + ask[1:]
    return Turn(ask.format(words), words, words, "echo", f"Repeat {words}.",
                f"The user wants to read this: {words}", f"The user wants to read something again. I copy it: {words}")
