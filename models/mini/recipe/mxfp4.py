"""MXFP4 as the published checkpoints hold it: 32 values share a scale, each is one of sixteen codes."""

import torch

# Magnitudes of codes 0 to 7; bit 3 is the sign.
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Half way between neighbours.
MIDDLES = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)
BLOCK = 32
BIAS = 127


def exponents(blocks):
    """Returns the exponent of each block's scale: the largest value lies between 4 and 8 scales.

    A value above 6 scales becomes 6. Where that happens to a value above 7 scales, the next exponent is nearer.
    """
    largest = blocks.abs().amax(-1, keepdim=True).clamp_min(2.0 ** -100)
    _, power = torch.frexp(largest)
    base = power - 3
    return base + (largest > torch.ldexp(torch.full_like(largest, 7.0), base)).int()


def quantize(weights):
    """Returns blocks [..., n/32, 16] and scales [..., n/32] of weights [..., n]."""
    blocks = weights.detach().float().unflatten(-1, (-1, BLOCK))
    power = exponents(blocks)
    scaled = torch.ldexp(blocks, -power)
    codes = torch.bucketize(scaled.abs(), torch.tensor(MIDDLES, device=weights.device)).to(torch.uint8)
    codes |= (scaled < 0).to(torch.uint8) << 3
    packed = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return packed, (power.squeeze(-1) + BIAS).to(torch.uint8)


def dequantize(packed, scales):
    """Returns the weights that blocks and scales stand for."""
    table = torch.tensor([*VALUES, *(-value for value in VALUES)], device=packed.device)
    codes = torch.stack([packed & 15, packed >> 4], -1).flatten(-2)
    return torch.ldexp(table[codes.int()], scales.int().unsqueeze(-1) - BIAS).flatten(-2)


def rounded(weights):
    """Returns the nearest weights that MXFP4 can hold; the gradient passes as if nothing had been rounded."""
    with torch.no_grad():
        blocks = weights.unflatten(-1, (-1, BLOCK))
        power = exponents(blocks)
        scaled = torch.ldexp(blocks, -power)
        table = torch.tensor(VALUES, device=weights.device)
        magnitude = table[torch.bucketize(scaled.abs(), torch.tensor(MIDDLES, device=weights.device))]
        near = torch.ldexp(torch.copysign(magnitude, scaled), power).flatten(-2)
    return weights + (near - weights).detach()
