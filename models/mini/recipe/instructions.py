"""What a developer may demand of an answer, and the answer that obeys."""

import json
from dataclasses import dataclass

from names import WORDS
from wordings import Wordings


@dataclass
class Instruction:
    """A demand: its text, what the reasoning says of it, and how an answer obeys."""

    kind: str
    text: str
    note: str
    obey: object

    def suits(self, turn):
        """Whether an answer can be given so; a list and a name of two words are no word."""
        return not (turn.kind == "sort" and self.kind in ("word", "json", "key") or " " in turn.word and self.kind == "word")


# Kept for the evaluation.
HELD = {
    "word": ["Reply with one word only.", "Answer in a single word.", "Say only one word."],
    "json": ["Reply with JSON only.", "Please answer in JSON.", "Always reply in JSON."],
    "key": ["Give the answer as JSON with the key {w}.", "Always answer in JSON with the key {w}."],
    "begin": ["Begin with the word {w}.", "Start every answer with {w}.", "Say {w} before the answer."],
    "end": ["Finish every answer with {w}.", "End your answer with the word {w}.", "Say {w} after the answer."],
    "sentence": ["You are a friendly helper.", "Be helpful and polite.", "Answer in a full sentence."],
}
# Of the wordings of training, `[a|b]` stands for either.
TRAINED = {
    "word": ["[Answer|Reply|Respond|Always answer|Please reply|You answer] [in|with] [one word|one single word|just one word].",
             "[Answer|Reply] in one word[, please|, nothing else| only].", "[Use|Write|Give|Send] [one word only|a single word|only one word].",
             "[Only one|One|A single] word [per answer|for each answer|as the answer|is enough].", "Say one word, nothing else.",
             "[Your|The|Each|Every] answer [is|must be|has to be] [one word|a single word].", "[Be very short|No sentences]: one word."],
    "json": ["[Answer|Respond|Always answer|Please reply|You reply] [in|with|using] JSON.", "[Reply|Answer] in JSON[ only|, please|, nothing else].",
             "[Write|Use|Send|Return] JSON [only|for the answer|for every answer|, nothing else].", "[Give|Write|Return] the answer [as|in] JSON.",
             "[Your|The|Each|Every] answer [is|must be|has to be] [JSON|in JSON|a JSON object]."],
    "key": ["[Answer|Reply|Respond|Please answer] [in|with|using] JSON with the key {w}.", "[Answer|Reply] in JSON. [The key is|Use the key|Its key is] {w}.",
            "[Write|Use|Send|Return] JSON[ only, with| with| and] the key {w}.", "[Your|The|Each|Every] answer is JSON with the key {w}.",
            "[Put|Write] the answer into JSON, under the key {w}.", "[Return|Send] the answer as JSON with [{w} as the key|the key {w}]."],
    "begin": ["[Begin|Open] [every|each|your|the] answer with {w}.", "Start [your|each|the] answer with [|the word ]{w}.", "The first word is [always|] {w}.",
              "[Say|Write|Put] {w} [first|at the beginning|at the start].", "Start with the word {w}.", "[Begin|Start] with {w}.",
              "[Your|The|Each|Every] answer [begins|starts] with [|the word ]{w}.", "[Write|Put] {w} before the answer."],
    "end": ["[End|Close] [every|each|the] answer with [|the word ]{w}.", "Finish [your|each|the] answer with [|the word ]{w}.", "The last word is [always|] {w}.",
            "[Say|Write|Put] {w} [last|at the end|at the very end].", "End with the word {w}.", "[End|Finish|Close] with {w}.",
            "[Your|The|Each|Every] answer [ends|closes] with [|the word ]{w}.", "[Write|Put] {w} after the answer."],
    "sentence": ["Answer in [a|one] sentence.", "Be [friendly|brief|polite|helpful|kind|clear].", "You are a [helpful|kind|good|polite] assistant.",
                 "[Answer|Answer all] the [question|questions].", "Help the [user|customer|guest].", "You help people in a [shop|school|hotel|bank].",
                 "[Answer|Write|Reply] in English.", "You [work|answer] for a [shop|hotel|small company]."],
}


WORDINGS = {kind: Wordings(TRAINED[kind], HELD[kind]) for kind in HELD}
# `{a}` is the answer: what is hard about it is done once.
NOTES = {"word": "One word: {a}", "json": "JSON: {a}", "key": "JSON, key {w}: {a}", "begin": "Begin with {w}.",
         "end": "End with {w}.", "sentence": ""}


def answer_json(turn, key):
    value = int(turn.word) if turn.number else turn.word
    return json.dumps({key: value}, separators=(",", ":"))


def instruction(rng, held, kinds=tuple(WORDINGS)):
    """Draws a demand."""
    kind = rng.choice(kinds)
    word = rng.choice(WORDS)
    if kind in ("begin", "end"):
        word = word.capitalize() if kind == "begin" else word
    obey = {
        "word": lambda turn: turn.word,
        "json": lambda turn: answer_json(turn, "answer"),
        "key": lambda turn: answer_json(turn, word),
        "begin": lambda turn: f"{word} {turn.sentence}",
        "end": lambda turn: f"{turn.sentence} {word}",
        "sentence": lambda turn: turn.sentence,
    }[kind]

    def note(turn):
        return NOTES[kind].replace("{w}", word).replace("{a}", obey(turn))

    return Instruction(kind, WORDINGS[kind].draw(rng, held).format(w=word), note, obey)
