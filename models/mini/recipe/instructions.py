"""What a developer may demand of an answer, and the answer that obeys."""

import json
from dataclasses import dataclass

from names import WORDS, is_held


@dataclass
class Instruction:
    """A demand: its text, what the reasoning says of it, and how an answer obeys."""

    kind: str
    text: str
    note: str
    obey: object


WORDINGS = {
    "word": (["Answer in one word.", "Use one word only.", "Answer with one word.", "Reply in a single word.",
              "Only one word per answer.", "Say one word, nothing else."],
             ["Reply with one word only.", "Answer in a single word.", "Say only one word."]),
    "json": (["Answer in JSON.", "Reply in JSON.", "Write JSON only.", "Always answer in JSON.", "Use JSON for the answer.",
              "Give the answer as JSON."],
             ["Reply with JSON only.", "Please answer in JSON.", "Always reply in JSON."]),
    "key": (["Answer in JSON with the key {w}.", "Reply in JSON. The key is {w}.", "Write JSON only, with the key {w}.",
             "Use JSON with the key {w}."],
            ["Give the answer as JSON with the key {w}.", "Always answer in JSON with the key {w}."]),
    "begin": (["Begin every answer with {w}.", "Start your answer with {w}.", "The first word is always {w}.",
               "Say {w} first.", "Start with the word {w}."],
              ["Begin with the word {w}.", "Start every answer with {w}.", "Say {w} before the answer."]),
    "end": (["End every answer with {w}.", "Finish your answer with {w}.", "The last word is always {w}.",
             "Say {w} at the end.", "End with the word {w}."],
            ["Finish every answer with {w}.", "End your answer with the word {w}.", "Say {w} after the answer."]),
    "sentence": (["Answer in a sentence.", "Be friendly.", "Be brief.", "You are a helpful assistant.", "Be polite.",
                  "Answer the question.", "Help the user.", "You help people in a shop.", "Answer in English."],
                 ["You are a friendly helper.", "Be helpful and polite.", "Answer in a full sentence."]),
}
NOTES = {"word": "One word.", "json": "JSON.", "key": "JSON, key {w}.", "begin": "Begin with {w}.", "end": "End with {w}.",
         "sentence": ""}


def answer_json(turn, key):
    value = int(turn.word) if turn.number else turn.word
    return json.dumps({key: value}, separators=(",", ":"))


def instruction(rng, held, kinds=tuple(WORDINGS)):
    """Draws a demand."""
    kind = rng.choice(kinds)
    word = rng.choice([w for w in WORDS if is_held(w) == held])
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
    return Instruction(kind, rng.choice(WORDINGS[kind][held]).format(w=word), NOTES[kind].format(w=word), obey)
