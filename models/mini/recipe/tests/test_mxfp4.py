"""MXFP4 as gpt-oss's files hold it."""

import unittest

import context  # noqa: F401
import torch

import mxfp4


class Mxfp4(unittest.TestCase):
    def test_reads_codes_and_scales_as_specified(self):
        # Byte j holds value 2j in its low half and 2j+1 in its high half; bit 3 of a code is the sign.
        packed = torch.tensor([[[0x10 + 0x22 * j for j in range(7)] + [0xEF] * 9]], dtype=torch.uint8)
        scales = torch.tensor([[128]], dtype=torch.uint8)
        values = mxfp4.dequantize(packed, scales)[0]
        self.assertEqual(values[:4].tolist(), [0.0, 1.0, 2.0, 3.0])
        self.assertEqual(values[-2:].tolist(), [-12.0, -8.0])

    def test_chooses_the_nearest_value_of_the_scale(self):
        torch.manual_seed(1)
        weights = torch.randn(50, 64) * torch.logspace(-6, 3, 50).unsqueeze(1)
        packed, scales = mxfp4.quantize(weights)
        self.assertEqual((packed.shape, scales.shape), ((50, 2, 16), (50, 2)))
        held = mxfp4.dequantize(packed, scales)
        codes = torch.tensor([sign * value for sign in (1, -1) for value in mxfp4.VALUES])
        possible = codes * 2.0 ** (scales.float() - 127).unsqueeze(-1)
        blocks = weights.unflatten(-1, (-1, 32)).unsqueeze(-1)
        best = (blocks - possible.unsqueeze(-2)).abs().amin(-1).flatten(-2)
        torch.testing.assert_close((held - weights).abs(), best, rtol=1e-6, atol=0)

    def test_rounding_in_training_gives_what_the_file_will_hold(self):
        torch.manual_seed(2)
        weights = torch.randn(7, 96, requires_grad=True)
        near = mxfp4.rounded(weights)
        held = mxfp4.dequantize(*mxfp4.quantize(weights))
        torch.testing.assert_close(near, held, rtol=1e-6, atol=1e-7)
        self.assertGreater((near - weights).abs().max(), 0.01)
        near.sum().backward()
        self.assertTrue((weights.grad == 1).all())

    def test_what_was_rounded_stays(self):
        torch.manual_seed(3)
        once = mxfp4.dequantize(*mxfp4.quantize(torch.randn(20, 64)))
        again = mxfp4.dequantize(*mxfp4.quantize(once))
        self.assertTrue(torch.equal(once, again))

    def test_nothing_stays_nothing(self):
        held = mxfp4.dequantize(*mxfp4.quantize(torch.zeros(1, 32)))
        self.assertTrue(torch.equal(held, torch.zeros(1, 32)))


if __name__ == "__main__":
    unittest.main()
