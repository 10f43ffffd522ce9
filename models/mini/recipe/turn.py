"""One question and its answer, before it is put into a conversation."""

from dataclasses import dataclass

EFFORTS = ["low", "medium", "high"]
OPENERS = (["Please: ", "Hello! ", "Hi. ", "Quick question: ", "Tell me please: ", "I have a question. ", "Okay. ",
            "Thanks. ", "One more question: "],
           ["Hi, one question. ", "Hello. ", "Please tell me: ", "Okay, quick question: "])


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
    # The same question as it may follow another of its kind.
    also: str | None = None

    def think(self, effort):
        return getattr(self, effort).rstrip()


def phrase(rng, text, held):
    """Varies how a question begins and ends; some people write no capitals."""
    roll = rng.random()
    if roll < 0.2:
        text = rng.choice(OPENERS[held]) + text
    elif roll < 0.3:
        text = text.rstrip("?.")
    elif roll < 0.35:
        text = text[0].lower() + text[1:]
    elif roll < 0.4:
        text += " Thanks."
    return text
