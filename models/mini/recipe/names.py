"""Names and words that are composed at random; some never occur in training."""

import zlib

ONSETS = ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "gr", "kl", "pl", "st", "tr",
          "sh", "ch", "w", "j", "h"]
VOWELS = ["a", "e", "i", "o", "u", "a", "e", "o", "ai", "ou"]
CODAS = ["", "", "", "n", "r", "l", "x", "s", "t", "m", "k", "nd", "p"]

# Words of which names of functions and arguments are composed.
WORDS = """get set find fetch list show make send read write add remove open close start stop check count play pause
lookup query create delete update save load move copy call book order buy sell pay plan rate scan search select share
sort split test track turn view item user file page note task event room door light lamp sound song video image photo
map route road city town place country region street house table chair garden water air fire stone metal wood paper
color size weight height width length depth speed power energy heat cold level score point rank grade price cost total
amount number value unit date day week month year hour minute second time zone name title label text word letter line
code key lock tag type kind group team member friend person child parent doctor teacher student driver pilot cook guest
food bread milk fruit apple bean rice soup meat fish egg cake sugar salt tea coffee juice wine beer glass cup plate
spoon knife bag box bottle bucket basket bike bus car train plane ship boat truck wheel engine motor pump valve pipe
wire cable screen phone radio camera clock watch alarm timer sensor robot drone data info status result report record
history weather rain snow wind cloud storm sun moon star planet river lake sea ocean beach island forest field farm
animal bird horse cow sheep dog cat mouse bear wolf lion tiger snake frog bee tree leaf root seed flower grass market
shop store bank hotel school office museum park station port bridge tower church castle wall floor roof window stairs
message mail letter post answer question game match goal ball prize ticket seat travel trip flight hotel visit meeting
party dance music band drum piano book story poem film show news stock share coin cash card loan tax bill budget""".split()


def is_held(word):
    """One name in eight is kept for the evaluation, however its words are joined."""
    letters = word.lower().replace("_", "").replace("-", "")
    return zlib.crc32(letters.encode()) % 8 == 0


def syllables(rng, least, most):
    parts = []
    for _ in range(rng.randint(least, most)):
        parts.append(rng.choice(ONSETS) + rng.choice(VOWELS))
    return "".join(parts) + rng.choice(CODAS)


def draw(rng, held, make):
    """Draws until the word is on the right side."""
    while True:
        word = make()
        if is_held(word) == held:
            return word


def made_up(rng, held):
    """A word that does not exist."""
    return draw(rng, held, lambda: syllables(rng, 1, 3))


def proper(rng, held):
    """A made-up name of a person or a place."""
    return draw(rng, held, lambda: syllables(rng, 2, 3)).capitalize()


def part(rng):
    """A word of a name; some do not exist."""
    return rng.choice(WORDS) if rng.random() < 0.85 else syllables(rng, 1, 2)


def joined(rng, parts):
    """Joins words as programmers do."""
    roll = rng.random()
    if roll < 0.1:
        return parts[0] + "".join(word.capitalize() for word in parts[1:])
    return ("-" if roll < 0.13 else "_").join(parts)


def identifier(rng, held):
    """A name for a function or an argument that says nothing of it."""
    return draw(rng, held, lambda: joined(rng, [part(rng) for _ in range(rng.choices([1, 2, 3], [3, 5, 1])[0])]))


# What programmers add to a name that says what it is for.
AROUND = ["{}_now", "my_{}", "{}_tool", "do_{}", "home_{}", "{}_service", "app_{}", "new_{}", "{}_name", "the_{}", "{}_value",
          "in_{}", "which_{}", "user_{}", "{}_text", "{}_id", "run_{}", "fast_{}", "{}_please", "try_{}"]


def around(rng, held, usual):
    """A name composed of a usual one and more."""
    return draw(rng, held, lambda: rng.choice(AROUND).format(rng.choice(usual)))
