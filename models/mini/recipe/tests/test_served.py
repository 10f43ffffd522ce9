"""Which scores of a served model fall short."""

import contextlib
import io
import unittest

import context  # noqa: F401

import data
from message import Message
from served import table

TOKENS = {"low": 1, "medium": 2, "high": 3}


def answered(chat, text=None):
    """What the API gives for the right answer, or for one with another text."""
    messages = [Message("assistant", m.text, m.channel, m.to) for m in chat.messages if m.learn]
    messages[-1].text = text or messages[-1].text
    return messages, True, TOKENS[chat.effort]


def short(found, chats):
    with contextlib.redirect_stdout(io.StringIO()):
        return table(found, chats)


class Table(unittest.TestCase):
    def setUp(self):
        self.chats = {family: data.held_out(3, family, 120) for family in ("facts", "talk")}
        self.found = {family: ([answered(chat) for chat in chats],) * 2 for family, chats in self.chats.items()}

    def test_right_answers_are_enough(self):
        self.assertEqual(short(self.found, self.chats), [])

    def test_wrong_answers_fall_short_where_they_are_claimed(self):
        for family, chats in self.chats.items():
            _, warm = self.found[family]
            self.found[family] = [answered(chat, "No.") for chat in chats], warm
        found = short(self.found, self.chats)
        self.assertEqual(found, ["facts", *(f"facts: {part}" for part in ("capitals", "continents", "days and months", "opposites", "units"))])

    def test_a_part_falls_short_alone(self):
        chats = self.chats["facts"]
        # One of them in twelve is little of the family, and half of the part.
        wrong = [at for at, chat in enumerate(chats) if chat.messages[-1].text.startswith("The opposite")]
        wrong = wrong[:len(wrong) // 2]
        cold = [answered(chat, "No." if at in wrong else None) for at, chat in enumerate(chats)]
        self.found["facts"] = cold, self.found["facts"][1]
        self.assertIn("facts: opposites", short(self.found, self.chats))
        self.assertNotIn("facts: capitals", short(self.found, self.chats))

    def test_what_is_no_harmony_falls_short(self):
        cold, warm = self.found["facts"]
        self.found["facts"] = cold, [(messages, at > 9, tokens) for at, (messages, _, tokens) in enumerate(warm)]
        self.assertEqual(short(self.found, self.chats), ["facts"])
        self.found["facts"] = [(messages, False, tokens) for messages, _, tokens in cold], warm
        self.assertIn("facts", short(self.found, self.chats))

    def test_more_effort_is_longer_reasoning(self):
        for family, answers in self.found.items():
            self.found[family] = tuple([(messages, formed, -tokens) for messages, formed, tokens in some] for some in answers)
        self.assertEqual(short(self.found, self.chats), ["reasoning effort"])
        # Of a few that is not asked.
        few = {family: chats[:20] for family, chats in self.chats.items()}
        self.assertEqual(short({family: tuple(some[:20] for some in both) for family, both in self.found.items()}, few), [])


if __name__ == "__main__":
    unittest.main()
