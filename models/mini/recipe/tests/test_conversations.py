"""Every conversation of training and evaluation renders, and reads back as what it was."""

import json
import os
import random
import re
import unittest

import context

import arithmetic
import data
import domains
import facts
import instructions
import talk
import tools
from arithmetic import is_held
from families import FAMILIES, expected, is_right
from harmony import developer, parse, system
from wordings import core

KINDS = list(data.KINDS)


def chats_of_training(count=15):
    rng = random.Random(5)
    return [chat for kind in KINDS for _ in range(count) for chat in data.group(rng, kind, 3)]


def chats_of_evaluation(count=15):
    return [chat for family in FAMILIES for chat in data.held_out(3, family, count)]


def turn(harmony, chat):
    """The ids of the model's turn: from where it is asked to write, to the first token it does not write."""
    ids, learn = harmony.messages(chat.messages)
    first = learn.index(True)
    end = next((at for at in range(first, len(ids)) if not learn[at]), len(ids))
    return ids[first:end]


class Conversations(unittest.TestCase):
    def test_every_turn_is_well_formed(self):
        harmony = context.harmony()
        for chat in chats_of_training() + chats_of_evaluation():
            messages = parse(harmony, turn(harmony, chat))
            self.assertIsNotNone(messages, chat)
            self.assertEqual(messages[0].channel, "analysis")

    def test_the_expected_turn_counts_as_right_and_another_as_wrong(self):
        harmony = context.harmony()
        for chat in chats_of_evaluation():
            messages = parse(harmony, turn(harmony, chat))
            self.assertTrue(is_right(chat, messages), (chat, messages))
            messages[-1].text = "I do not want to."
            self.assertFalse(is_right(chat, messages), chat)

    def test_the_prompt_and_the_turn_make_the_text_of_training(self):
        harmony = context.harmony()
        for chat in chats_of_training(5):
            whole = harmony.prefix(chat) + harmony.messages(chat.messages)[0]
            start = harmony.prompt(chat)
            self.assertEqual(start + turn(harmony, chat), whole[:len(start) + len(turn(harmony, chat))])

    def test_a_damaged_turn_is_not_well_formed(self):
        harmony = context.harmony()
        ids = turn(harmony, data.held_out(1, "facts", 1)[0])
        self.assertIsNotNone(parse(harmony, ids))
        for damaged in (ids[1:], ids[:-1], ids + ids, [i for i in ids if i != harmony.special["message"]]):
            self.assertIsNone(parse(harmony, damaged))

    def test_the_evaluation_asks_what_was_never_trained(self):
        def question(chat):
            learnt = next(at for at, m in enumerate(chat.messages) if m.learn)
            return [m.text for m in chat.messages[:learnt] if m.role == "user"][-1]

        trained = {question(chat) for chat in chats_of_training(60)}
        for family in FAMILIES:
            unseen = [question(chat) not in trained for chat in data.held_out(3, family, 150)]
            self.assertEqual(unseen.count(False), 0, family)
        for chat in data.held_out(3, "arithmetic", 150):
            numbers = chat.messages[-1].text.split()
            self.assertTrue(numbers[1] == "x" or is_held(int(numbers[0]), int(numbers[2]), numbers[1]))
        # But for talk there is enough that nothing is asked twice.
        for family in FAMILIES:
            asked = [json.dumps([chat.effort, chat.instructions, [m.text for m in chat.messages if not m.learn]])
                     for chat in data.held_out(4, family, 150)]
            self.assertEqual(len(set(asked)), len(asked), family)
            self.assertEqual(len(asked), 150, family)

    def test_no_sum_of_the_evaluation_is_written_in_training(self):
        written = re.compile(r"(?<![\d+-])(\d+) ?([+-]) ?(\d+) ?= ?(\d+)(?!\d)")
        seen = 0
        for chat in chats_of_training(150):
            for message in chat.messages:
                for a, op, b, result in written.findall(message.text):
                    seen += 1
                    self.assertFalse(is_held(int(a), int(b), op), message.text)
        self.assertGreater(seen, 1000)
        # What is left out is of every kind: no digit is always or never at the end.
        ends = {(op, (a + b) % 10) for op in "+-" for a in range(100) for b in range(100) if is_held(a, b, op)}
        self.assertEqual(len(ends), 20)

    def test_a_wording_of_the_evaluation_comes_into_training_in_no_disguise(self):
        rng = random.Random(8)
        every = [*facts.ASK.values(), *arithmetic.ASK.values(), talk.BEYOND, talk.ECHO, facts.GOES_ON, *(row[0] for row in talk.TALK), data.GIVEN, data.WANTED,
                 tools.EXPLICIT, *instructions.WORDINGS.values(), *(some for domain in domains.DOMAINS for some in (domain.about, domain.asks))]
        for wordings in every:
            marks = [f"p{at}" for at in range(3)]
            names = {name: name for name in (*"nmtuycabwf", "pairs")}
            kept = [core(text.format(*marks, **names)) for texts in ([wordings.own], wordings.left) for some in texts
                    for text in ([some] if isinstance(some, str) else some)]
            self.assertGreater(len(kept), 1)
            for _ in range(300):
                said = wordings.say(rng, False, *marks, **names)
                # Without marks, wherever they stand.
                said = " ".join(re.findall(r"[^\s?.!,:\"]+", said.lower()))
                self.assertFalse([text for text in kept if text in said], said)

    def test_no_form_is_left_without_wordings(self):
        for wordings in (*facts.ASK.values(), *arithmetic.ASK.values(), talk.BEYOND, *(domain.asks for domain in domains.DOMAINS)):
            self.assertGreater(len(wordings.trained), 6)
            self.assertGreater(sum(map(len, wordings.trained)), 15)
            self.assertGreater(len(wordings.own), 2)

    def test_what_most_people_would_say_is_trained(self):
        for wordings, texts in (
                (arithmetic.ASK["+"], ["What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "Add {a} and {b}.", "What is {a} plus {b}?"]),
                (arithmetic.ASK["-"], ["What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "Subtract {b} from {a}.", "{a} minus {b}"]),
                (arithmetic.ASK["x"], ["What is {a} x {b}?", "{a} * {b}", "{a} times {b}", "Multiply {a} by {b}."]),
                (facts.ASK["capital"], ["What is the capital of {0}?", "capital of {0}"]),
                (domains.DOMAINS[0].asks, ["What is the weather in {0}?"])):
            trained = {text for form in wordings.trained for text in form}
            self.assertEqual(set(texts) - trained, set())

    def test_a_function_is_described_by_its_word(self):
        for domain in domains.DOMAINS:
            texts = [text for some in (domain.about.own, *domain.about.trained, *domain.about.left)
                     for text in ([some] if isinstance(some, str) else some)]
            self.assertGreater(len(texts), 8, domain.word)
            for about in texts:
                self.assertIn(domain.word, about.lower())

    def test_unseen_names_are_unseen(self):
        def of(chats):
            return {name for chat in chats for function in chat.functions
                    for name in (function.name, *(arg for arg, _ in function.args))}

        trained = of(chats_of_training(60))
        for family in set(data.TOOLS) - {"calls_known"}:
            self.assertEqual(trained & of(data.held_out(3, family, 150)), set(), family)

    def test_the_longer_the_effort_the_longer_the_reasoning(self):
        means = []
        for effort in data.EFFORTS:
            lengths = [len(chat.messages[-2].text) for chat in chats_of_training() if chat.effort == effort]
            means.append(sum(lengths) / len(lengths))
        self.assertLess(means[0], means[1])
        self.assertLess(means[1], means[2])

    def test_the_same_seed_gives_the_same_conversations(self):
        def texts(chats):
            return [[message.text for message in chat.messages] for chat in chats]

        self.assertEqual(texts(chats_of_evaluation(3)), texts(chats_of_evaluation(3)))
        self.assertEqual(texts(chats_of_training(2)), texts(chats_of_training(2)))
        self.assertNotEqual(texts(data.held_out(1, "facts", 9)), texts(data.held_out(2, "facts", 9)))


@unittest.skipUnless(os.environ.get("TIKTOKEN_ENCODINGS_BASE"), "needs openai-harmony and the ranks of o200k")
class Library(unittest.TestCase):
    """The texts are those that openai-harmony renders."""

    def test_renders_as_the_library_does(self):
        import openai_harmony as oh

        library = oh.load_harmony_encoding(oh.HarmonyEncodingName.HARMONY_GPT_OSS)
        harmony = context.harmony()
        for chat in chats_of_training(12) + chats_of_evaluation(12):
            content = oh.SystemContent.new().with_reasoning_effort(oh.ReasoningEffort(chat.effort.capitalize()))
            if chat.date:
                content = content.with_conversation_start_date(chat.date)
            messages = [oh.Message.from_role_and_content(oh.Role.SYSTEM, content)]
            if chat.instructions or chat.functions:
                told = oh.DeveloperContent.new()
                if chat.instructions:
                    told = told.with_instructions(chat.instructions)
                if chat.functions:
                    schemas = [json.loads(json.dumps(function.schema())) for function in chat.functions]
                    told = told.with_function_tools([oh.ToolDescription.new(
                        s["name"], s["description"], parameters=s["parameters"]) for s in schemas])
                messages.append(oh.Message.from_role_and_content(oh.Role.DEVELOPER, told))
            for message in chat.messages:
                if message.role in ("user", "assistant"):
                    made = oh.Message.from_role_and_content(oh.Role(message.role), message.text)
                else:
                    made = oh.Message.from_author_and_content(oh.Author.new(oh.Role.TOOL, message.role), message.text)
                if message.channel:
                    made = made.with_channel(message.channel)
                if message.to:
                    made = made.with_recipient(message.to)
                if message.is_call:
                    made = made.with_content_type("<|constrain|>json")
                messages.append(made)
            config = oh.RenderConversationConfig(auto_drop_analysis=False)
            ids = library.render_conversation_for_training(oh.Conversation.from_messages(messages), config=config)
            ours = harmony.prefix(chat) + harmony.messages(chat.messages)[0]
            text = harmony.tokenizer.decode(ours, skip_special_tokens=False)
            self.assertEqual(text, library.decode(ids))
            self.assertIn(system(chat.effort, chat.date, bool(chat.functions)), text)
            self.assertIn(developer(chat.instructions, chat.functions), text)
            self.assertEqual(expected(chat)[2] in text, True)


if __name__ == "__main__":
    unittest.main()
