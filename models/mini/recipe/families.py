"""The families of the evaluation, what each demands, and which answers are right."""

import itertools
import json
import math
import re

from facts import ASK
from talk import BEYOND, FEELINGS, THINGS
from wordings import core

FAMILIES = ["arithmetic", "facts", "talk", "refusal", "instructions", "turns", "echo", "calls_known", "calls", "calls_named", "results", "no_call"]
# Least shares of right answers, where the model is meant to reach one.
LEAST = {"arithmetic": 0.90, "facts": 0.95, "calls_known": 0.90, "calls": 0.75, "calls_named": 0.75, "instructions": 0.85}
LEAST_FORMED = 0.995
# Families of which the model's card says that it can do them, and what that means where no bar is set.
CLAIMED = ["arithmetic", "facts", "refusal", "instructions", "turns", "results"]
LEAST_CLAIMED = 0.90
# Parts of families that are told apart by a mark of the right answer.
PARTS = {"arithmetic": {"sums": r"\d \+ ", "differences": r"\d - ", "products": r"\d x "},
         "facts": {"capitals": "^The capital", "continents": " is in ", "units": "^There are", "opposites": "^The opposite",
                   "days and months": " comes (after|before) ", "sorting": "^In order"}}
# Questions of the shape of known ones, which are refused where the name is not known.
KNOWN = ("capital", "continent", "opposite")
# What fills questions beyond the tables: names, countries, years, things and what is said of them.
NAME = r"[A-Z]\w*\b(?!')"
FIELDS = {"n": NAME, "m": NAME, "c": NAME, "y": r"\d+", "t": f"(?:{'|'.join(THINGS)})", "u": f"(?:{'|'.join(FEELINGS)})"}
# Each part of a family that the card claims has to reach the family's bar too, and at least LEAST_CLAIMED, but for these.
NOT_CLAIMED = {"sorting", "a word first", "a word last"}
# Conversations of a family whose share of right answers is taken as it is.
ENOUGH = 1000
# How seldom chance has to give a share of fewer, or less, for it to be short.
SELDOM = 0.01
# More than any right answer takes.
MOST_TOKENS = 256
# A step of a sum, a difference or a product: which number is larger, a result of digits, what it all comes to.
STEP = re.compile(r"\d+[<>]\d+|-?\d+[-+x\d]*=-?\d+|(?:sum is|difference is|product is|so) -?\d+")


def expected(chat):
    """What a right completion ends with: channel, recipient, text."""
    last = [message for message in chat.messages if message.learn][-1]
    return last.channel, last.to, last.text


def is_worded(text, wordings):
    """Whether a question is one of these, whatever name or thing it is about: names begin with a capital."""
    words = " ".join(re.sub('[?.!,:"]', " ", text).split())
    forms = [*wordings.own, *(form for forms in (*wordings.left, *wordings.trained) for form in forms)]
    for form in forms:
        pieces = re.split(r"\{(\w)\}", core(form))
        fields = (FIELDS.get(name, r"\S+") for name in pieces[1::2])
        literal = (f"(?i:{re.escape(piece)})" for piece in pieces[::2])
        mark = "".join(part for both in itertools.zip_longest(literal, fields, fillvalue="") for part in both)
        if re.search(mark, words):
            return True
    return False


def part(family, chat):
    """Which part of its family a conversation is of; nothing if it has none."""
    text = expected(chat)[2]
    if family == "refusal":
        asked = [message for message in chat.messages if message.role == "user"][-1].text
        if any(is_worded(asked, ASK[kind]) for kind in KNOWN):
            return "unknown names"
        return "beyond its tables" if is_worded(asked, BEYOND) else "deeds of functions"
    if family != "instructions":
        return next((name for name, mark in PARTS.get(family, {}).items() if re.search(mark, text)), None)
    if "JSON" in chat.instructions:
        return "JSON with a key" if re.search(r"\bkey\b", chat.instructions) else "JSON"
    if re.search("(one|single) word", chat.instructions, re.IGNORECASE):
        return "one word"
    # What a sentence ends with has a full stop behind it.
    return "a word last" if text.split()[-1] in re.findall(r"\w+", chat.instructions) else "a word first"


def steps(messages):
    """The steps of the working that are shown on the analysis channel, in their order, and what it comes to."""
    return [step for message in messages if message.channel == "analysis" for step in STEP.findall(message.text)]


def arguments(text):
    """The arguments of a call as one text: a number is not right where true is wanted, nor a name given twice."""
    def once(pairs):
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a name is given twice")
        return dict(pairs)

    return json.dumps(json.loads(text, object_pairs_hook=once), sort_keys=True)


def is_right(chat, messages):
    """Whether something was reasoned, the steps of the working are all and only those, and the last message is the right one."""
    channel, to, text = expected(chat)
    last, own = messages[-1], [message for message in chat.messages if message.learn]
    if (last.channel, last.to) != (channel, to):
        return False
    if not any(message.channel == "analysis" and message.text for message in messages) or steps(own) != steps(messages):
        return False
    if channel == "commentary":
        try:
            return arguments(last.text) == arguments(text)
        except ValueError:
            return False
    return last.text == text


def is_formed(messages):
    """Whether a turn that needed no repair is well-formed Harmony: it ends with its only answer or call."""
    if not messages or any("<|" in message.text for message in messages):
        return False
    *before, last = messages
    if any(message.is_call or message.channel == "final" for message in before):
        return False
    return last.channel == ("commentary" if last.is_call else "final")


def interval(share, count):
    """Wilson's interval of 95 %: https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval"""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def misses(share, count, least):
    """Whether a share of so many conversations is below the least that is wanted: of few, if chance would seldom give so little."""
    if count >= ENOUGH:
        return share < least
    right = round(share * count)
    return sum(math.comb(count, k) * least**k * (1 - least)**(count - k) for k in range(right + 1)) < SELDOM
