"""A model that was never trained can copy."""

import unittest

import context
import torch

import beginning
from model import Model, Shape
from pack import Batch


class Beginning(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(3)
        self.harmony = context.harmony()
        self.model = Model(Shape(rows=self.harmony.rows, layers=2)).eval()

    def test_what_was_said_is_said_again(self):
        said = torch.randperm(self.harmony.rows)[:60].tolist()
        ids = [*said, *said]
        batch = Batch([(ids[:1], [(ids[1:], [True] * len(ids))])])

        def share():
            with torch.no_grad():
                logits = self.model(batch.ids, batch.positions, batch.attend(128))
            return sum(logits[at].argmax().item() == ids[at + 1] for at in range(60, 119)) / 59

        self.assertLess(share(), 0.1)
        beginning.begin(self.harmony, self.model)
        self.assertGreater(share(), 0.7)

    def test_like_tokens_begin_alike(self):
        beginning.begin(self.harmony, self.model)
        rows, embed = self.harmony.tokenizer.get_vocab(), self.model.embed.weight
        pairs = [(token, token[1:]) for token in rows if token[1:] in rows and token[0] == "\u0120" and len(token) > 2]
        self.assertGreater(len(pairs), 50)
        for blank, bare in pairs:
            same = torch.cosine_similarity(embed[rows[blank]], embed[rows[bare]], dim=0)
            self.assertGreater(same, 0.5, blank)


if __name__ == "__main__":
    unittest.main()
