"""Functions with names composed at random, and the conversations that call them."""

import json
import re
from dataclasses import dataclass

from domains import DOMAINS, NEAR, OK, Domain, Part, upto, word
from names import WORDS, around, identifier
from wordings import Wordings


@dataclass
class Function:
    """A declared function; `domain` says what it is for."""

    name: str
    about: str
    args: list
    described: bool
    domain: Domain
    # Whether the schema says which arguments are required: else all are marked as optional.
    strict: bool = True

    def declaration(self):
        """The lines of the developer message, as Harmony writes them."""
        return f"// {self.about}\n{self.written([part.written() for _, part in self.args])} => any;"

    def written(self, values):
        """The lines from the name to the last argument, with these types or values."""
        if not self.args:
            return f"type {self.name} = ()"
        lines = [f"type {self.name} = (_: {{"]
        for (name, part), value in zip(self.args, values):
            lines += [f"// {part.about}"] * self.described + [f"{name}{'' if self.strict else '?'}: {value},"]
        return "\n".join([*lines, "})"])

    def schema(self):
        """The function as a client declares it."""
        def of(part):
            about = {"description": part.about} if self.described else {}
            choices = {"enum": part.choices} if part.choices else {}
            return {"type": part.kind, **about, **choices}

        required = {"required": [name for name, _ in self.args]} if self.strict else {}
        return {"name": self.name, "description": self.about, "parameters": {
            "type": "object", "properties": {name: of(part) for name, part in self.args}, **required}}


@dataclass
class Bound:
    """An argument of a declared function."""

    about: str
    kind: str
    draw: object
    # The values it may have, where the schema lists them.
    choices: list | None = None

    def written(self):
        """Its type, as Harmony writes it."""
        if self.choices:
            return " | ".join(f'"{choice}"' for choice in self.choices)
        return "string" if self.kind == "string" else "number"


@dataclass
class Call:
    """A question, the call it needs, the result and the answer."""

    ask: str
    function: Function
    values: list
    result: dict
    answer: str

    def arguments(self):
        pairs = {name: value for (name, _), value in zip(self.function.args, self.values)}
        return json.dumps(pairs, separators=(",", ":"))

    def given(self):
        """The result as a program sends it."""
        return json.dumps(self.result, separators=(",", ":"))

    def filled(self):
        """What is asked for in a word, then what the declaration says from that word on, with the values in the place of
        the types.

        The word is in the description, or is the name if the user says it. So each step is copied from behind what was
        just written: a place is found by what stands before it, never by what follows.
        """
        written = self.function.written(self.values)
        if self.is_named:
            return written.removeprefix("type ")
        about = self.function.about
        return about[re.search(self.function.domain.word, about, re.IGNORECASE).start():] + "\n" + written

    @property
    def is_named(self):
        """Whether the user says the name of the function."""
        return is_named(self.function)

    def think(self, effort):
        """Finds the function and what to call it with."""
        return {"low": "", "medium": "I look for the function. ",
                "high": "The user wants something that a function can do. I look for the one that fits, and take its "
                        "arguments from the question. "}[effort] + f"Asked: {self.filled()}"

    def conclude(self, effort):
        """Reasons about the result."""
        values = ", ".join(str(value) for value in self.result.values())
        if effort == "low":
            return f"Result: {values}."
        if effort == "medium":
            return f"The function {self.function.name} says {values}. I answer now."
        return f"The function {self.function.name} has answered. The result is {values}. I tell the user in one sentence."


EXPLICIT = Wordings(
    ["[Use|Call|Run|Do|Start|Try] [|the function ]{f} with {pairs}.", "[Call|Use|Run|Start] [|the function ]{f}: {pairs}", "{f} with {pairs}", "[I want|I need|I want to call] {f} with {pairs}.",
     "{f}: {pairs}", "Let {f} [run|work] with {pairs}.", "[Can you|Will you] [call|run|use|start] {f} with {pairs}?", "[Use|Call] the function {f}, {pairs}.", "With {pairs}, [call|run|use] {f}.",
     "{f}, {pairs}", "[Make|Do] a call of {f} with {pairs}.", "{f} [has to|must] run with {pairs}."],
    ["Please run {f}, with {pairs}.", "Can you make use of {f} with {pairs}?", "Go and call {f}: {pairs}", "Let us use {f}, with {pairs}."])


def explicit(rng, held):
    """A function whose purpose nothing says; the user names it and its arguments."""
    abouts = [f"{rng.choice(['The', 'A', 'Its'])} {thing} {rng.choice(['value', 'setting', 'part', 'number'])}."
              for thing in rng.sample(sorted(set(WORDS)), 3)]
    parts = [Part([], about, rng.choice([word, word, upto(0, 200)])) for about in abouts[:rng.choice([1, 1, 2, 2, 3])]]
    return Domain("", [], ["Do something.", "A function.", "A test.", "Run it."], parts, EXPLICIT, {"result": word}, "The result is {result}.")


USUAL = {name for domain in DOMAINS for owner in (domain, *domain.parts) for name in owner.names}


def named(rng, held, usual, taken, known):
    """Chooses a name: a usual one, one composed of it and more, or one that says nothing."""
    while True:
        make = rng.choices(["usual", "around", "any"], [4, 3, 3])[0]
        if held and make == "usual" and not known:
            continue
        # Names that the evaluation calls known are those of training.
        unseen = held and not known
        if not usual or make == "any":
            name = identifier(rng, unseen)
        else:
            name = around(rng, unseen, usual) if make == "around" else rng.choice(usual)
        if name not in taken and (name not in USUAL or make == "usual"):
            taken.add(name)
            return name


def declare(rng, held, domain, taken, known=False):
    """Declares a function of a domain, with or without names of training."""
    name = named(rng, held, domain.names, taken, known)
    args, within = [], set()
    for part in domain.parts:
        kind = rng.choice(["number", "integer"]) if isinstance(part.draw(rng, held), int) else "string"
        arg = named(rng, held, part.names, within, known)
        choices = part.choices if part.choices and rng.random() < 0.4 else None
        args.append((arg, Bound(part.about, kind, part.draw, choices)))
    # Names that say nothing can only be told apart by what is written about them.
    plain = all(any(usual in arg for usual in part.names) for (arg, _), part in zip(args, domain.parts))
    described = not plain or rng.random() < 0.5
    about = domain.about.draw(rng, held and not known) if isinstance(domain.about, Wordings) else rng.choice(domain.about)
    return Function(name, about, args, described, domain, strict=rng.random() < 0.7)


def toolbox(rng, held, most=4, known=False, share=0.3):
    """Declares one to four functions for different purposes; a share of them is such that the user has to name them."""
    count = rng.choices(range(1, most + 1), [3, 4, 3, 2][:most])[0]
    domains = rng.sample(DOMAINS, count)
    domains = [explicit(rng, held) if rng.random() < share else domain for domain in domains]
    taken = set()
    return [declare(rng, held, domain, taken, known) for domain in domains]


def is_named(function):
    """Whether only a user who names the function tells that it is meant."""
    return function.domain.asks is EXPLICIT


def tells(function):
    """Whether the answer depends on what the function says."""
    return function.domain.result is not OK


def call(rng, held, functions, fits=None):
    """Asks for one of the functions, or of those that fit."""
    some = [function for function in functions if fits is None or fits(function)]
    function = rng.choice(some)
    domain = function.domain
    values = [part.draw(rng, held) for _, part in function.args]
    pairs = rng.choice([" and ", " and ", ", "]).join(f"{name} {value}" for (name, _), value in zip(function.args, values))
    if domain.asks is EXPLICIT:
        ask = domain.asks.say(rng, held, f=function.name, pairs=pairs)
    else:
        ask = domain.asks.say(rng, held, *values)
    result = {name: draw(rng, held) for name, draw in domain.result.items()}
    answer = domain.answer.format(*values, **result)
    return Call(ask, function, values, result, answer)


def unfit(rng, held, functions):
    """Asks for something that none of the functions does, and none nearly; returns its word, too."""
    there = {function.domain.word for function in functions}
    there |= {word for near in NEAR if near & there for word in near}
    domain = rng.choice([domain for domain in DOMAINS if domain.word not in there])
    return domain.word, domain.asks.say(rng, held, *(part.draw(rng, held) for part in domain.parts))
