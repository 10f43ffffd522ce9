"""When a family falls short."""

import unittest

import context  # noqa: F401

from families import interval, misses


class Families(unittest.TestCase):
    def test_few_conversations_fall_short_only_beyond_chance(self):
        self.assertFalse(misses(0.80, 50, 0.85))
        self.assertTrue(misses(0.60, 50, 0.85))
        self.assertTrue(misses(0.849, 1000, 0.85))
        self.assertFalse(misses(0.85, 1000, 0.85))

    def test_an_interval_is_that_of_wilson(self):
        # 80 of 100, as statsmodels gives it (proportion_confint, method "wilson").
        low, high = interval(0.80, 100)
        self.assertAlmostEqual(low, 0.7112, 4)
        self.assertAlmostEqual(high, 0.8666, 4)


if __name__ == "__main__":
    unittest.main()
