"""The fused attention with sinks is the plain one."""

import unittest

import context  # noqa: F401
import torch

from sinks import attend, plain


class Sinks(unittest.TestCase):
    def test_values_and_gradients_are_those_of_plain_arithmetic(self):
        torch.manual_seed(0)
        queries, keys, values = (torch.randn(3, 2, count, 64, requires_grad=True) for count in (10, 12, 12))
        sinks = torch.randn(2, 10, requires_grad=True)
        hidden = torch.arange(12) > torch.arange(10).unsqueeze(1) + 2
        mask = torch.zeros(10, 12).masked_fill_(hidden, float("-inf"))
        weights, given = torch.randn(3, 2, 10, 64), [queries, keys, values, sinks]
        found = []
        for run in (attend, plain):
            out = run(queries, keys, values, mask, sinks)
            found.append([out, *torch.autograd.grad((out * weights).sum(), given)])
        for fused, steps in zip(*found):
            torch.testing.assert_close(fused, steps, rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
