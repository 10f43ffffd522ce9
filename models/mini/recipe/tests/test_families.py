"""Which answers are right and well formed, when a family falls short, and that the card tells the same."""

import collections
import json
import pathlib
import re
import unittest
from unittest import mock

import context

import data
import talk
from families import CLAIMED, FAMILIES, LEAST, LEAST_CLAIMED, NOT_CLAIMED, PARTS, interval, is_formed, is_right, misses, part
from harmony import parse
from message import Message

CARD = pathlib.Path(__file__).resolve().parent.parent.parent / "README.md"


def answer(chat):
    """The messages that the model is to write."""
    return [Message("assistant", m.text, m.channel, m.to) for m in chat.messages if m.learn]


class Families(unittest.TestCase):
    def test_few_conversations_fall_short_only_beyond_chance(self):
        self.assertFalse(misses(0.80, 50, 0.85))
        self.assertTrue(misses(0.60, 50, 0.85))
        # One of two, one of twenty.
        self.assertFalse(misses(0.5, 2, 0.95))
        self.assertFalse(misses(0.95, 20, 0.995))
        self.assertTrue(misses(0.90, 20, 0.995))
        self.assertTrue(misses(0.849, 1000, 0.85))
        self.assertFalse(misses(0.85, 1000, 0.85))

    def test_an_interval_is_that_of_wilson(self):
        # 80 of 100, as statsmodels gives it (proportion_confint, method "wilson").
        low, high = interval(0.80, 100)
        self.assertAlmostEqual(low, 0.7112, 4)
        self.assertAlmostEqual(high, 0.8666, 4)

    def test_a_sum_is_right_with_its_working_alone(self):
        for chat in data.held_out(3, "arithmetic", 60):
            right = answer(chat)
            self.assertTrue(is_right(chat, right))
            self.assertFalse(is_right(chat, right[1:]), "without reasoning")
            right[0].text = "I know this."
            self.assertFalse(is_right(chat, right), "without steps")
            right[0].text = re.sub(r"=-?\d+", "=-7", answer(chat)[0].text)
            self.assertFalse(is_right(chat, right), "with wrong steps")
            right[0].text = answer(chat)[0].text + " 2+2=5"
            self.assertFalse(is_right(chat, right), "with one step more")
            right[0].text = re.sub(r"(is|so) -?\d+", r"\1 999", answer(chat)[0].text)
            self.assertFalse(is_right(chat, right), "with another result")
            right[0].text = re.sub(r"-(\d+[+]\d+=)", r"\1", answer(chat)[0].text)
            self.assertEqual(is_right(chat, right), right[0].text == answer(chat)[0].text, "with a sign lost")
            compared = answer(chat)[0].text.translate(str.maketrans("<>", "><"))
            right[0].text = compared
            self.assertEqual(is_right(chat, right), compared == answer(chat)[0].text, "with the wrong number larger")

    def test_a_call_is_right_with_its_very_arguments(self):
        chats = data.held_out(3, "calls", 60)
        for chat in chats:
            right = answer(chat)
            arguments = json.loads(right[-1].text)
            self.assertTrue(is_right(chat, right))
            for text in ("{}", "", "[]", json.dumps({**arguments, "more": 1}), json.dumps({name: [value] for name, value in arguments.items()})):
                right[-1].text = text
                self.assertFalse(is_right(chat, right), text)
            # A name that is given twice, though what counts is the same.
            name, value = next(iter(arguments.items()))
            right[-1].text = "{" + f"{json.dumps(name)}:{json.dumps(value)}," + json.dumps(arguments)[1:]
            self.assertFalse(is_right(chat, right), right[-1].text)
            right[-1] = Message("assistant", json.dumps(arguments), "commentary", "functions.other")
            self.assertFalse(is_right(chat, right))

    def test_a_conversation_is_of_one_part_of_its_family(self):
        demands = {"JSON", "JSON with a key", "one word", "a word first", "a word last"}
        known = {family: set(parts) for family, parts in PARTS.items()}
        known |= {"instructions": demands, "refusal": {"unknown names", "beyond its tables", "deeds of functions"}}
        self.assertLessEqual(NOT_CLAIMED, set().union(*known.values()))
        for family in FAMILIES:
            self.assertEqual({part(family, chat) for chat in data.held_out(3, family, 150)}, known.get(family, {None}), family)
        # As drawn: a deed of a function is neither beyond the tables nor about an unknown name.
        drawn, refusal = {}, talk.refusal

        def keep(rng, held):
            turn = refusal(rng, held)
            drawn[turn.ask] = turn.for_function
            return turn

        with mock.patch.object(talk, "refusal", keep):
            for chat in data.held_out(3, "refusal", 300):
                asked = [message for message in chat.messages if message.role == "user"][-1].text
                self.assertEqual(part("refusal", chat) == "deeds of functions", drawn[asked], asked)
        for family, parts in PARTS.items():
            for chat in data.held_out(3, family, 150):
                text = answer(chat)[-1].text
                self.assertEqual(sum(bool(re.search(mark, text)) for mark in parts.values()), 1, text)
        for demand, said in (("Say Stairs before the answer.", "Stairs The capital of Austria is Vienna."), ("The last word is The.", "The opposite of a is b. The")):
            chat = data.Chat("low", instructions=demand, messages=[Message("assistant", said, "final", learn=True)])
            self.assertEqual(part("instructions", chat), "a word first" if said.endswith(".") else "a word last")

    def test_well_formed_is_what_reads_back(self):
        harmony = context.harmony()
        think, call = Message("assistant", "I think.", "analysis"), Message("assistant", "{}", "commentary", "functions.a")
        final, preamble = Message("assistant", "Yes.", "final"), Message("assistant", "I look.", "commentary")
        for messages, formed in (
                ([think, final], True), ([think, call], True), ([final], True), ([think, preamble, call], True), ([think, preamble, final], True),
                ([], False), ([think], False), ([think, preamble], False), ([think, final, final], False), ([call, final], False),
                ([call, call], False), ([think, Message("assistant", "{}", "analysis", "functions.a")], False),
                ([think, Message("assistant", "{}", "final", "functions.a")], False),
                ([Message("assistant", "a<|message|>b", "analysis"), final], False)):
            self.assertEqual(is_formed(messages), formed, messages)
        # What reads back from tokens is well formed, and what does not is not.
        for chat in data.held_out(3, "calls", 20) + data.held_out(3, "facts", 20):
            ids, learn = harmony.messages(chat.messages)
            self.assertTrue(is_formed(parse(harmony, ids[learn.index(True):])))


class Card(unittest.TestCase):
    """Its table is that of these families, and keeps what it claims."""

    def test_the_bars_and_intervals_of_its_table_are_these(self):
        rows = re.findall(r"^\| .+? \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \| (\d*) ?(?:\(own\))? ?\| ([\d.]+) \|", CARD.read_text(), re.M)
        self.assertEqual(len(rows), len(FAMILIES))
        for family, (right, low, high, bar, formed) in zip(FAMILIES, rows):
            share = float(right) / 100
            for told, computed in zip((low, high), interval(share, 1000)):
                self.assertAlmostEqual(float(told), 100 * computed, delta=0.051, msg=family)
            least = LEAST.get(family, LEAST_CLAIMED if family in CLAIMED else None)
            self.assertEqual(bar, f"{100 * least:.0f}" if least else "", family)
            if family in CLAIMED:
                self.assertGreaterEqual(share, least, family)
                self.assertGreaterEqual(float(formed), 99.5, family)

    def test_the_parts_of_its_table_are_these_and_keep_their_bars(self):
        rows = re.findall(r"^\| (\w+): ([\w ]+) \| (\d+) \| ([\d.]+) \| ([\d.]+) to ([\d.]+) \|$", CARD.read_text(), re.M)
        drawn = collections.Counter((family, part(family, chat)) for family in FAMILIES for chat in data.held_out(1, family, 1000))
        told = {(family, name): int(asked) for family, name, asked, *_ in rows}
        self.assertEqual(told, {which: asked for which, asked in drawn.items() if which[1]})
        for family, name, asked, right, *bounds in rows:
            share = round(float(right) / 100 * int(asked)) / int(asked)
            self.assertAlmostEqual(float(right), 100 * share, delta=0.051, msg=name)
            for bound, computed in zip(bounds, interval(share, int(asked))):
                self.assertAlmostEqual(float(bound), 100 * computed, delta=0.051, msg=name)
            if name not in NOT_CLAIMED:
                self.assertGreaterEqual(share, max(LEAST.get(family, 0), LEAST_CLAIMED), name)


if __name__ == "__main__":
    unittest.main()
