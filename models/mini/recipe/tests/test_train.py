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

    def test_as_many_threads_as_one_likes(self):
        one = torch.load(self.run_in("one", "--threads", "1") / "model.pt")["model"]
        two = torch.load(self.run_in("two", "--threads", "2") / "model.pt")["model"]
        for name, tensor in one.items():
            self.assertTrue(torch.equal(tensor, two[name]), name)


if __name__ == "__main__":
    unittest.main()
