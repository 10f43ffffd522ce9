"""One question and its answer, before it is put into a conversation."""

from dataclasses import dataclass

EFFORTS = ["low", "medium", "high"]
OPENERS = (["Please: ", "Hello! ", "Hi. ", "Quick question: ", "Tell me please: ", "I have a question. ", "Okay. ",
            "Thanks. ", "One more question: ", "Good. ", "And now: ", "Next question: ", "Hello, ", "Well, ", "So, ",
            "I wonder: ", "Help me: ", "Another one: "],
           ["Hi, one question. ", "Hello. ", "Please tell me: ", "Okay, quick question: "])
ENDINGS = ([" Thanks.", " Please.", " Thank you!", " Quickly, please.", " I need it now."], [" Thank you.", " I have to know."])

# Ways to ask for a thing and for a deed, whatever it is: else such a way would say which family a question is of.
NAMING = (["Tell me {}.", "I need {}.", "Do you know {}?", "Can you tell me {}?", "Give me {}.", "{}?", "{}", "What about {}?",
           "I want to know {}.", "Please tell me {}.", "Find {}.", "Say {}.", "Now {}.", "Do you happen to know {}?",
           "I have to know {}.", "Please say {}.", "Show me {}.", "I am looking for {}.", "May I ask for {}?", "{}, please.",
           "My question is {}.", "I forgot {}.", "Can you say {}?", "Look up {}.", "Help me with {}.", "What's {}?"],
          ["Could you tell me {}?", "I would like to know {}.", "Let me know {}.", "Please give me {}."])
DOING = (["Please {}.", "Can you {}?", "I want you to {}.", "{}, please.", "Now {}.", "I need you to {}.", "Do this: {}.",
          "Can you please {}?", "Let us {}.", "You should {}.", "Will you {}?", "Time to {}.", "I ask you to {}.", "First, {}.",
          "Just {}.", "{} now.", "{} for me."],
         ["Could you {}?", "Would you {}, please?", "I would like you to {}.", "Go on and {}."])
DEEDS = """add ask buy calculate call compute explain find get give heat make multiply name order phone plan play put remind say
send set show sort start subtract switch take tell translate turn wake work write""".split()


def reword(rng, text, held):
    """Asks for the same thing or deed in a way that fits any."""
    start, _, rest = text.partition(" ")
    if text.startswith("What is the ") and text.endswith("?"):
        return rng.choice(NAMING[held]).replace("{}", text[len("What is "):-1])
    if start.lower() in DEEDS and text.endswith(".") and not rest.startswith("me "):
        return rng.choice(DOING[held]).replace("{}", f"{start.lower()} {rest[:-1]}")
    return text


def frame(rng, text, held):
    """Varies how a wording begins and ends; its places for numbers and names stay open."""
    if rng.random() < (0.25 if held else 0.5):
        text = reword(rng, text, held)
    roll = rng.random()
    if roll < 0.2:
        text = rng.choice(OPENERS[held]) + text
    elif roll < 0.3:
        text = text.rstrip("?.")
    elif roll < 0.35:
        text = text[0].lower() + text[1:]
    elif roll < 0.4 and not text.endswith("}"):
        text += rng.choice(ENDINGS[held])
    return text


@dataclass
class Turn:
    """A question, its answer in a word and in a sentence, and the reasoning for each effort."""

    ask: str
    word: str
    sentence: str
    kind: str
    low: str
    medium: str
    high: str
    number: bool = False
    # What is asked for, in a word: said first where functions are declared.
    asked: str = "something else"
    # The same question as it may follow another of its kind.
    also: str | None = None
    # Whether a function could do it, if one were declared.
    for_function: bool = False

    def think(self, effort):
        return getattr(self, effort).rstrip()
