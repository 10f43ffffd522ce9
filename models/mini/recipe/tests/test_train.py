"""A training that is stopped and resumed ends with the numbers of one that was not."""

import unittest

import context
import torch

import train
import vocabulary


class Train(unittest.TestCase):
    def setUp(self):
        # Made from fewer texts the vocabulary takes seconds.
        self.addCleanup(setattr, vocabulary, "SAMPLE", vocabulary.SAMPLE)
        vocabulary.SAMPLE = 60

    def run_in(self, name, *options):
        folder = context.folder()[1] / name
        train.run(train.arguments([
            "--out", str(folder), "--steps", "4", "--tokens", "300", "--rows", "900", "--hidden", "64", "--intermediate", "128",
            "--warmup", "2", "--rounding", "0.5", "--threads", "1", "--quiet", *options]))
        return folder

    def test_a_resumed_training_is_the_same_training(self):
        whole = self.run_in("whole")
        for threads in ("1", "2"):
            name = f"stopped-{threads}"
            stopped = self.run_in(name, "--threads", threads, "--stop", "2")
            self.assertFalse((stopped / "model.pt").exists())
            words = (stopped / "tokenizer.json").read_bytes()
            self.assert_same(whole, self.run_in(name, "--threads", threads))
            self.assertEqual((stopped / "tokenizer.json").read_bytes(), words)

    def test_as_many_threads_as_one_likes(self):
        self.assert_same(self.run_in("one", "--threads", "1"), self.run_in("two", "--threads", "2"))

    def test_what_was_begun_is_not_gone_on_with_otherwise(self):
        folder = self.run_in("begun", "--stop", "2")
        with self.assertRaisesRegex(SystemExit, "begun with another seed"):
            self.run_in("begun", "--seed", "2")
        self.assertFalse((folder / "model.pt").exists())

    def assert_same(self, one, other):
        """Two trainings ended with the same numbers."""
        one, other = (torch.load(folder / "model.pt")["model"] for folder in (one, other))
        self.assertEqual(one.keys(), other.keys())
        for name, tensor in one.items():
            self.assertTrue(torch.equal(tensor, other[name]), name)


if __name__ == "__main__":
    unittest.main()
