"""A training that is stopped and resumed ends with the numbers of one that was not."""

import shutil
import unittest

import context
import torch

import train


class Train(unittest.TestCase):
    def run_in(self, name, *options):
        folder = context.folder()[1] / name
        folder.mkdir(exist_ok=True)
        context.harmony()
        shutil.copy(context.folder()[1] / "tokenizer.json", folder)
        train.run(train.arguments([
            "--out", str(folder), "--steps", "4", "--tokens", "300", "--hidden", "64", "--intermediate", "128",
            "--muon", "all", "--warmup", "2", "--rounding", "0.5", "--threads", "1", "--quiet", *options]))
        return folder

    def test_a_resumed_training_is_the_same_training(self):
        whole = torch.load(self.run_in("whole") / "model.pt")["model"]
        stopped = self.run_in("stopped", "--stop", "2")
        self.assertFalse((stopped / "model.pt").exists())
        resumed = torch.load(self.run_in("stopped") / "model.pt")["model"]
        for name, tensor in whole.items():
            self.assertTrue(torch.equal(tensor, resumed[name]), name)

    def test_like_tokens_begin_alike(self):
        harmony, model = context.harmony(), context.model()
        train.relate(harmony, model)
        rows = harmony.tokenizer.get_vocab()
        pairs = [(token, token[1:]) for token in rows if token[1:] in rows and token[0] == "\u0120" and len(token) > 2]
        self.assertGreater(len(pairs), 50)
        for blank, bare in pairs:
            same = torch.cosine_similarity(model.embed.weight[rows[blank]], model.embed.weight[rows[bare]], dim=0)
            self.assertGreater(same, 0.5, blank)
        self.assertTrue(torch.equal(model.embed.weight, model.head.weight))


if __name__ == "__main__":
    unittest.main()
