"""gpt-oss in a hundred lines: sinks, sliding and full layers, YaRN, top-4 of the experts."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from experts import Experts


@dataclass(frozen=True)
class Shape:
    """The numbers that fix the model; head size, window and rotation are those of gpt-oss."""

    rows: int = 3072
    layers: int = 4
    hidden: int = 192
    intermediate: int = 128
    experts: int = 16
    top: int = 4
    heads: int = 8
    kv_heads: int = 1
    head: int = 64
    window: int = 128
    theta: int = 150_000
    factor: float = 32.0
    original: int = 4096
    eps: float = 1e-5


def frequencies(shape):
    """Returns YaRN's frequencies and the factor on cosine and sine."""
    half = shape.head // 2
    powers = shape.theta ** (torch.arange(half, dtype=torch.float64) * 2 / shape.head)
    low, high = (half * math.log(shape.original / (turns * 2 * math.pi)) / math.log(shape.theta) for turns in (32.0, 1.0))
    keep = 1 - ((torch.arange(half) - low) / (high - low)).clamp(0, 1)
    scaled = (1 - keep) / (shape.factor * powers) + keep / powers
    return scaled.float(), 0.1 * math.log(shape.factor) + 1


class Layer(nn.Module):
    """Attention and experts, each with its norm and its way around."""

    def __init__(self, shape, index):
        super().__init__()
        self.sliding = index % 2 == 0
        width, kv = shape.heads * shape.head, shape.kv_heads * shape.head
        self.before = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.q, self.k, self.v = (nn.Linear(shape.hidden, size) for size in (width, kv, kv))
        self.o = nn.Linear(width, shape.hidden)
        self.sinks = nn.Parameter(torch.zeros(shape.heads))
        self.after = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.experts = Experts(shape.hidden, shape.intermediate, shape.experts, shape.top)


class Model(nn.Module):
    """The whole model. What attends to what is the caller's: `attend(layer index, layer, q, k, v)`."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embed = nn.Embedding(shape.rows, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape, index) for index in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.eps)
        self.head = nn.Linear(shape.hidden, shape.rows, bias=False)
        inverse, self.factor = frequencies(shape)
        self.register_buffer("inverse", inverse, persistent=False)
        for name, tensor in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(tensor)
            elif tensor.dim() == 2:
                scale = 0.5 if ".o." in name else 1.0
                nn.init.normal_(tensor, std=scale * tensor.shape[1] ** -0.5)

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def forward(self, ids, positions, attend, wanted=None, balances=None):
        """Returns the logits of the `wanted` rows, or of all; `balances` is filled for each layer."""
        shape = self.shape
        angles = positions.float().unsqueeze(-1) * self.inverse
        cos, sin = ((f(angles) * self.factor).unsqueeze(1) for f in (torch.cos, torch.sin))
        x = self.embed(ids)
        for index, layer in enumerate(self.layers):
            rows = layer.before(x)
            q, k, v = (linear(rows).view(len(rows), -1, shape.head) for linear in (layer.q, layer.k, layer.v))
            out = attend(index, layer, self.rotate(q, cos, sin), self.rotate(k, cos, sin), v)
            if wanted is not None and index == shape.layers - 1:
                # Nothing after the last attention looks at the other rows.
                x, out = x[wanted], out[wanted]
            x = x + layer.o(out)
            x = x + layer.experts(layer.after(x), balances)
        return F.linear(self.norm(x), self.head.weight)

    def rounding(self, on):
        for layer in self.layers:
            layer.experts.rounding = on
