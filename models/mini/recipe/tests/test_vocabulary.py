"""The vocabulary is a genuine tokenizer.json, and encodes as its ranks say."""

import json
import random
import unittest

import context
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

import names
import vocabulary


def by_rank(ranks, piece):
    """Encodes a piece by the rule: itself if it is a token, else the join of lowest rank, leftmost first."""
    if piece in ranks:
        return [ranks[piece]]
    parts = list(piece)
    while True:
        joins = [(ranks[a + b], at) for at, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in ranks]
        if not joins:
            return [ranks[part] for part in parts]
        at = min(joins)[1]
        parts[at:at + 2] = [parts[at] + parts[at + 1]]


class Vocabulary(unittest.TestCase):
    def setUp(self):
        self.harmony = context.harmony()
        self.file = json.loads((context.folder()[1] / "tokenizer.json").read_text())

    def test_ids_have_no_gaps_and_special_tokens_come_last(self):
        ids = list(self.file["model"]["vocab"].values())
        added = [token["id"] for token in self.file["added_tokens"]]
        self.assertEqual(ids + added, list(range(len(ids) + len(added))))
        self.assertEqual(self.harmony.rows, len(ids) + len(added))

    def test_encodes_by_rank(self):
        ranks = self.file["model"]["vocab"]
        split = Split(Regex(vocabulary.PATTERN), "isolated")
        rng = random.Random(4)
        texts = [text for text, _ in zip(vocabulary.texts(9), range(1500))]
        texts += [" ".join(names.identifier(rng, True) for _ in range(20)), "Zürich, 東京 und 🎉!\n\n\tfoo  bar 12345 don't"]
        for text in texts:
            pieces = split.pre_tokenize_str(text)
            ids = [i for piece, _ in pieces for i in by_rank(ranks, vocabulary.spell(piece))]
            self.assertEqual(self.harmony.text(text), ids, text)
            self.assertEqual(self.harmony.tokenizer.decode(ids), text)

    def test_names_of_special_tokens_in_a_text_are_text(self):
        self.assertNotIn(self.harmony.special["start"], self.harmony.text("<|start|>system"))

    def test_digits_are_single_tokens(self):
        self.assertEqual(len(self.harmony.text("987")), 3)


if __name__ == "__main__":
    unittest.main()
