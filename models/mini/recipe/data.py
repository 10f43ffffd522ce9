"""Conversations of every family, drawn from a seed."""

import json
import random
from dataclasses import dataclass, field

import talk
import tools
from arithmetic import arithmetic, drill
from facts import fact
from instructions import instruction
from message import Message
from names import proper
from turn import EFFORTS
from wordings import Wordings

# How often each effort is trained: long reasoning costs more and teaches no more.
SHARES = [4, 4, 2]
# Shares of the kinds of groups, at the beginning and from a tenth of the training on; a group of one kind is not as
# long as one of another. Copying comes first: all other kinds need it, and would blur what the weights begin with.
KINDS = {"plain": (1, 4.5), "turns": (0.2, 1.4), "instructions": (0.3, 3), "tools": (2, 8), "echo": (6, 0.8), "drill": (2, 1)}
# Families that declare functions, and the share of functions that the user has to name.
TOOLS = ("calls", "calls_known", "calls_named", "results", "no_call")
SHARE = [0.2, 0.7]


@dataclass
class Chat:
    """A conversation: what all branches share, and the messages of this branch."""

    effort: str
    date: str | None = None
    instructions: str | None = None
    functions: list = field(default_factory=list)
    messages: list = field(default_factory=list)

    def branch(self, messages):
        return Chat(self.effort, self.date, self.instructions, self.functions, messages)


def date(rng):
    if rng.random() < 0.5:
        return None
    return f"20{rng.randint(24, 29)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def say(think, answer):
    """A whole turn of the model."""
    return [Message("assistant", think, "analysis", learn=True), Message("assistant", answer, "final", learn=True)]


def told(ask, answer):
    """A turn that lies in the past: its reasoning is gone."""
    return [Message("user", ask), Message("assistant", answer, "final")]


def any_turn(rng, held):
    make = rng.choices([fact, arithmetic, talk.talk, talk.refusal], [9, 7, 2.5, 3.5])[0]
    return make(rng, held)


def plain(rng, held, base, make=any_turn):
    turn = make(rng, held)
    while base.functions and turn.for_function:
        turn = make(rng, held)
    think, messages = turn.think(base.effort), []
    if base.functions:
        think = f"Asked: {turn.asked}\nNo function is for it. {think}"
        messages = past(rng, held, base) if rng.random() < 0.15 else []
    return base.branch([*messages, Message("user", turn.ask), *say(think, turn.sentence)])


def beyond(rng, held, base):
    """A demand for which no function was declared."""
    asked, ask = tools.unfit(rng, held, base.functions)
    think = f"Asked: {asked}\nNo function is for it. {refuse(base.effort)}".rstrip()
    return base.branch([Message("user", ask), *say(think, talk.NO_TOOL)])


def refuse(effort):
    return {"low": "", "medium": "I cannot do it. I say so.", "high": "I cannot do it by myself. I say so and do not guess."}[effort]


def several(rng, held, base, make=any_turn):
    """Several turns: what was said before may matter; in the evaluation it does."""
    roll = rng.random() * (0.7 if held else 1)
    if roll < 0.35:
        return recall(rng, held, base)
    turn = make(rng, held)
    past = [make(rng, held) for _ in range(rng.choice([1, 1, 2]))]
    if roll < 0.7:
        while turn.also is None:
            turn = fact(rng, held)
        before = fact(rng, held)
        while before.kind != turn.kind:
            before = fact(rng, held)
        past, turn.ask = [before], turn.also
    messages = [message for old in past for message in told(old.ask, old.sentence)]
    return base.branch([*messages, Message("user", turn.ask), *say(turn.think(base.effort), turn.sentence)])


# How a user gives a name, and asks for it.
GIVEN = Wordings(["[My name is|I am|I'm|Call me|They call me|You can call me|People call me] {0}.", "[Hello|Hi|Hey], [my name is|I am|I'm|this is] {0}.", "This is {0}.", "{0} is my name.", "My name: {0}", "Name: {0}"],
                 ["Hi there, I am {0}.", "Please call me {0}.", "Good day, my name is {0}."])
WANTED = Wordings(["[What is|What's|Tell me|Do you know|Do you remember|Repeat|Can you say|I forgot] my name[?|.]", "Who am I?", "How am I called?", "What do [you|they|people] call me?", "[Which name|What name] [did I give|have I|do I have]?", "My name is[ what|]?",
                   "What did I say my name is?"],
                  ["What was my name?", "Say my name.", "Do you still know my name?"])


def recall(rng, held, base):
    """The user says a name, and asks for it later."""
    name = proper(rng, held)
    ask = GIVEN.say(rng, held, name)
    hello = f"Nice to meet you, {name}!"
    think = {"low": f"Name: {name}.", "medium": f"The user has the name {name}. I answer.",
             "high": f"The user told me a name. The name is {name}. There is nothing to work out. I answer in a friendly way."}
    if not held and rng.random() < 0.3:
        messages = [Message("user", ask), *say(think[base.effort], hello)]
        return base.branch(messages)
    between = [any_turn(rng, held) for _ in range(rng.choice([0, 1]))]
    question = WANTED.say(rng, held)
    answer = f"Your name is {name}."
    messages = told(ask, hello) + [m for old in between for m in told(old.ask, old.sentence)]
    return base.branch([*messages, Message("user", question), *say(think[base.effort], answer)])


def instructed(rng, held, base, demand):
    """An answer in the form that the developer demands."""
    turn = (fact if rng.random() < 0.6 else arithmetic)(rng, held)
    while not demand.suits(turn):
        turn = fact(rng, held)
    answer = demand.obey(turn)
    think = f"{turn.think(base.effort)} {demand.note(turn)}".rstrip()
    messages = []
    if rng.random() < 0.2:
        before = any_turn(rng, held)
        while not demand.suits(before):
            before = any_turn(rng, held)
        messages = told(before.ask, demand.obey(before))
    return base.branch([*messages, Message("user", turn.ask), *say(think, answer)])


def past(rng, held, base):
    """What was said before, where functions are declared: an answer, or a call with its result and the answer."""
    if rng.random() < 0.5:
        old = any_turn(rng, held)
        while old.for_function:
            old = any_turn(rng, held)
        return told(old.ask, old.sentence)
    made = tools.call(rng, held, base.functions)
    to = f"functions.{made.function.name}"
    return [Message("user", made.ask), Message("assistant", made.arguments(), "commentary", to),
            Message(to, made.given(), "commentary", "assistant"), Message("assistant", made.answer, "final")]


def calling(rng, held, base, whole=True, fits=None):
    """A call; with `whole` also its result and the answer; `fits` as for `tools.call`."""
    made = tools.call(rng, held, base.functions, fits)
    to = f"functions.{made.function.name}"
    messages = past(rng, held, base) if rng.random() < 0.15 else []
    messages += [Message("user", made.ask), Message("assistant", made.think(base.effort), "analysis", learn=True),
                Message("assistant", made.arguments(), "commentary", to, learn=True)]
    if whole:
        # The role of a result is the name of the function.
        messages += [Message(to, made.given(), "commentary", "assistant"), *say(made.conclude(base.effort), made.answer)]
    return base.branch(messages)


def shares(progress):
    """Returns the weight of each kind."""
    late = min(1, 10 * progress)
    return [first + (last - first) * late for first, last in KINDS.values()]


def group(rng, kind, branches=12):
    """Draws conversations of training that share their beginning."""
    base = Chat(rng.choices(EFFORTS, SHARES)[0], date(rng))
    if kind == "tools":
        base.functions = tools.toolbox(rng, False)
        if rng.random() < 0.15:
            base.instructions = instruction(rng, False, ("sentence",)).text
        makes = rng.choices([calling, beyond, plain], [8, 2, 2], k=6)
        return [make(rng, False, base) for make in makes]
    if kind == "instructions":
        demand = instruction(rng, False)
        base.instructions = demand.text
        return [instructed(rng, False, base, demand) for _ in range(branches)]
    make = several if kind == "turns" else plain
    turns = {"echo": talk.echo, "drill": drill}.get(kind, any_turn)
    return [make(rng, False, base, turns) for _ in range(2 * branches)]


def held_out(seed, family, count):
    """Draws conversations of the evaluation: other wordings, numbers and names than those of training.

    None comes twice: a family that has no more gives fewer.
    """
    drawn, seen, misses = drawn_out(seed, family), set(), 0
    chats = []
    while len(chats) < count:
        chat = next(drawn)
        known = json.dumps([chat.effort, chat.instructions, [m.text for m in chat.messages if not m.learn]])
        if known in seen:
            misses += 1
            if misses > 20 * count:
                break
            continue
        chats.append(chat)
        seen.add(known)
    return chats


def drawn_out(seed, family):
    """Draws such conversations without end."""
    rng = random.Random(f"{seed}/{family}")
    chats = []
    while True:
        yield from chats
        chats = []
        base = Chat(rng.choice(EFFORTS), date(rng))
        if family in TOOLS:
            base.functions = tools.toolbox(rng, True, known=family == "calls_known", share=SHARE[family == "calls_named"])
        if family == "instructions":
            demand = instruction(rng, True, ("word", "json", "key", "begin", "end"))
            base.instructions = demand.text
            chats.append(instructed(rng, True, base, demand))
        elif family.startswith("calls"):
            fits = tools.is_named if family == "calls_named" else lambda function: not tools.is_named(function)
            if any(map(fits, base.functions)):
                chats.append(calling(rng, True, base, whole=False, fits=fits))
        elif family == "results":
            if any(map(tools.tells, base.functions)):
                chat = calling(rng, True, base, fits=tools.tells)
                for message in [message for message in chat.messages if message.learn][:2]:
                    message.learn = False
                chats.append(chat)
        elif family == "no_call":
            chats.append((plain if rng.random() < 0.5 else beyond)(rng, True, base))
        elif family == "turns":
            chats.append(several(rng, True, base))
        else:
            make = {"arithmetic": arithmetic, "facts": fact, "talk": talk.talk, "refusal": talk.refusal,
                    "echo": talk.echo}[family]
            chats.append(plain(rng, True, base, make))
