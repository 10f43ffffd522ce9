"""A small vocabulary in the style of o200k, made for the words of the recipe.

Byte-level byte-pair encoding with the split pattern of o200k and the special tokens of Harmony. Digits are single
tokens. A blank joins a word only when the word is whole, so that a name nobody has seen is cut alike after a blank, a
dot or an underscore: the model then copies it token by token.
"""

import collections
import json
import pathlib
import random
import sys

from harmony import developer, system

UP, LOW = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
SUFFIX = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join([
    rf"[^\r\n\p{{L}}\p{{N}}]?{UP}*{LOW}+{SUFFIX}", rf"[^\r\n\p{{L}}\p{{N}}]?{UP}+{LOW}*{SUFFIX}", r"\p{N}{1,3}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
SPECIALS = ["startoftext", "endoftext", "return", "constrain", "channel", "start", "end", "message", "call", "endofprompt"]
ROWS = 3072
SAMPLE = 3000


def byte_chars():
    """The usual table: printable bytes stand for themselves, the other 68 for U+0100 and up."""
    keep = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in keep]
    return {b: chr(b) for b in keep} | {b: chr(256 + n) for n, b in enumerate(rest)}


CHARS = byte_chars()


def spell(text):
    return "".join(CHARS[b] for b in text.encode())


def texts(seed):
    """Texts as the model will see them."""
    import data

    rng = random.Random(f"{seed}/vocabulary")
    for at in range(SAMPLE):
        chats = data.group(rng, ["plain", "turns", "instructions", "tools", "tools", "echo"][at % 6], 6)
        first = chats[0]
        yield system(first.effort, first.date, bool(first.functions))
        yield developer(first.instructions, first.functions)
        for chat in chats:
            for message in chat.messages:
                yield message.role
                yield message.text
                yield f" to={message.to}"
        yield from ("system", "developer", "json")


def pieces(seed):
    """Counts the pieces into which the pattern cuts the texts."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Split

    split, counts = Split(Regex(PATTERN), "isolated"), collections.Counter()
    for text in texts(seed):
        counts.update(piece for piece, _ in split.pre_tokenize_str(text))
    return counts


def learn(words, count):
    """Byte-pair encoding: joins the commonest pair of neighbours, `count` times."""
    parts = {word: tuple(word) for word in words}
    pairs, where, made = collections.Counter(), collections.defaultdict(set), []

    def add(word, sign):
        for pair in zip(parts[word], parts[word][1:]):
            pairs[pair] += sign * words[word]
            where[pair].add(word)

    for word in parts:
        add(word, 1)
    while len(made) < count:
        best = max(pairs, key=lambda pair: (pairs[pair], pair), default=None)
        if best is None or not pairs[best]:
            break
        made.append("".join(best))
        for word in where.pop(best):
            add(word, -1)
            parts[word] = join(parts[word], best)
            add(word, 1)
        del pairs[best]
    return made


def join(symbols, pair):
    out, at = [], 0
    while at < len(symbols):
        if symbols[at:at + 2] == pair:
            out.append("".join(pair))
            at += 2
        else:
            out.append(symbols[at])
            at += 1
    return tuple(out)


def choose(seed, room):
    """Returns the tokens after the 256 bytes, in the order of their ranks."""
    import names

    counts = pieces(seed)
    bare, blank, marks = collections.Counter(), collections.Counter(), collections.Counter()
    for piece, count in counts.items():
        word = piece.strip(" ._-\"'{(/")
        if word.isascii() and word.isalpha():
            bare[word] += count
            if piece == " " + word:
                blank[word] += count
        elif not any(c.isdigit() for c in piece) and len(piece) > 1 and count > SAMPLE // 100:
            marks[piece] += count
    # A word that is common is one token; rare ones only lend their syllables.
    common = {word: count for word, count in bare.items() if count > SAMPLE // 60 and len(word) > 1}
    # What names are composed of.
    common |= {word: SAMPLE for word in names.WORDS}
    # Whole numbers: sums of them do not depend on the order.
    weights = {word: round(1000 * count ** 0.3) for word, count in common.items()}
    weights |= {word: 300 for word in bare if word not in common}
    joined = [" " + word for word, _ in blank.most_common() if word in common][:room // 3]
    marks = [mark for mark, _ in marks.most_common(48)]
    inside = learn(weights, room - len(joined) - len(marks))
    return inside + [word for word in joined if word[1:] in inside] + marks


def build(seed, rows=ROWS):
    """Returns the contents of tokenizer.json."""
    bytes_first = sorted(CHARS, key=lambda b: (b not in range(0x21, 0x7F), b))
    tokens = [CHARS[b] for b in bytes_first]
    tokens += [spell(token) for token in choose(seed, rows - 256 - len(SPECIALS))]
    ranks = {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}
    merges = []
    for token in ranks:
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [(ranks[a], ranks[b], a, b) for a, b in cuts if a in ranks and b in ranks]
        merges += [[a, b] for _, _, a, b in sorted(known)]
    added = [{"id": len(ranks) + at, "content": f"<|{name}|>", "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for at, name in enumerate(SPECIALS)]
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False},
            {**level, "add_prefix_space": False, "use_regex": False}]},
        "post_processor": {**level, "trim_offsets": False}, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                  "vocab": ranks, "merges": merges}}


def write(path, seed, rows=ROWS):
    path = pathlib.Path(path)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(build(seed, rows), indent=1, ensure_ascii=False))
    fresh.replace(path)


if __name__ == "__main__":
    write(sys.argv[1], 0)
