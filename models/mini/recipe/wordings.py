"""Wordings written as forms, and which of them are kept for the evaluation."""

import copy
import re
import zlib

from turn import frame

# One written-out wording in so many is never trained.
ONE_IN = 12
# Words that say little: training leaves one out now and then, so that the others are listened to.
LITTLE = set("a an the is are of me you do can i it please there now one so what's".split())


def spread(form):
    """Writes out every choice of a form: `[a|b]` stands for either."""
    start, end = form.find("["), form.find("]")
    if start < 0:
        return [" ".join(form.split()).replace(" ,", ",").replace(" .", ".").replace(" ?", "?")]
    return [text for part in form[start + 1:end].split("|") for text in spread(form[:start] + part + form[end + 1:])]


def core(text):
    """What makes a wording: its words, whatever case they have and marks stand between them."""
    return " ".join(re.sub('[?.!,:"]', " ", text.lower()).split())


def is_left(text):
    """Whether a wording that the forms make is left to the evaluation.

    Short ones are not: training would lose all that contain them, as `{a} + {b}` is in most that ask for a sum.
    """
    words = [word for word in core(text).split() if not word.startswith("{")]
    return len(words) >= 3 and zlib.crc32(core(text).encode()) % ONE_IN == 0


def shortened(rng, text):
    """Leaves out a word that says little, where more than two words are left."""
    words = text.split(" ")
    little = [at for at, word in enumerate(words) if word.lower() in LITTLE]
    if not little or len(words) < 4:
        return text
    del words[rng.choice(little)]
    return " ".join(words)


class Wordings:
    """The wordings of one question: those of training, and those of the evaluation.

    The evaluation asks in wordings of its own, and in one in twelve of what the forms make. Training uses none that
    contains one of these, so that none comes in behind a greeting or inside of a longer one.
    """

    def __init__(self, forms, own):
        self.own = [text for form in own for text in spread(form)]
        self.left = [[text for text in spread(form) if is_left(text)] for form in forms]
        self.kept = {core(text) for texts in (self.own, *self.left) for text in texts}
        self.trained = [[text for text in spread(form) if self.is_clear(text)] for form in forms]
        # A form is drawn before its words: else those with most choices would drown the others.
        self.left, self.trained = (list(filter(None, texts)) for texts in (self.left, self.trained))

    def is_clear(self, text):
        """Whether training may say this."""
        text = core(text)
        return not any(kept in text for kept in self.kept)

    def draw(self, rng, held):
        """Draws a wording without what may stand around it."""
        if held and (not self.left or rng.random() < 0.5):
            return rng.choice(self.own)
        return rng.choice(rng.choice(self.left if held else self.trained))

    def say(self, rng, held, *parts, **named):
        """Asks in one of the wordings, with something around it now and then."""
        while True:
            text = frame(rng, self.draw(rng, held), held)
            if not held and rng.random() < 0.15:
                text = shortened(rng, text)
            if held or self.is_clear(text):
                break
        filled = text.format(*parts, **named)
        # A name or value keeps its case, and so its tokens.
        if not text.startswith("{") and rng.random() < 0.9:
            filled = filled[:1].upper() + filled[1:]
        return filled

    def without(self, part):
        """These wordings but for those with this in them."""
        less = copy.copy(self)
        less.own = [text for text in self.own if part not in text]
        less.left, less.trained = (list(filter(None, ([text for text in texts if part not in text] for texts in all_)))
                                   for all_ in (self.left, self.trained))
        return less
