"""The experts: four of sixteen for each row, each expert's rows multiplied at once."""

import torch
from torch import nn

import mxfp4

ALPHA, LIMIT = 1.702, 7.0


class Grouped(torch.autograd.Function):
    """Rows sorted by expert, times each expert's matrix, plus its bias."""

    @staticmethod
    def forward(ctx, rows, weights, biases, ends):
        ctx.save_for_backward(rows, weights)
        ctx.ends = ends
        out = rows.new_empty(rows.shape[0], weights.shape[1])
        for expert, (start, end) in enumerate(zip([0, *ends], ends)):
            torch.addmm(biases[expert], rows[start:end], weights[expert].T, out=out[start:end])
        return out

    @staticmethod
    def backward(ctx, grad):
        rows, weights = ctx.saved_tensors
        grad = grad.contiguous()
        to_rows, to_weights = torch.empty_like(rows), torch.empty_like(weights)
        to_biases = weights.new_empty(weights.shape[:2])
        for expert, (start, end) in enumerate(zip([0, *ctx.ends], ctx.ends)):
            part = grad[start:end]
            torch.mm(part, weights[expert], out=to_rows[start:end])
            torch.mm(part.T, rows[start:end], out=to_weights[expert])
            torch.sum(part, 0, out=to_biases[expert])
        return to_rows, to_weights, to_biases, None


class Gate(torch.autograd.Function):
    """The clamped SwiGLU of gpt-oss: gates in the first half, ups in the second."""

    @staticmethod
    def forward(ctx, z):
        gate, up = z.chunk(2, -1)
        gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
        sigmoid = torch.sigmoid(ALPHA * gate)
        ctx.save_for_backward(z, sigmoid)
        return gate * sigmoid * (up + 1)

    @staticmethod
    def backward(ctx, grad):
        z, sigmoid = ctx.saved_tensors
        gate, up = z.chunk(2, -1)
        inside_gate, inside_up = gate <= LIMIT, up.abs() <= LIMIT
        gate, up = gate.clamp(max=LIMIT), up.clamp(-LIMIT, LIMIT)
        out = torch.empty_like(z)
        to_gate, to_up = out.chunk(2, -1)
        slope = sigmoid * (1 + ALPHA * gate * (1 - sigmoid))
        torch.mul(grad * slope, (up + 1) * inside_gate, out=to_gate)
        torch.mul(grad * gate, sigmoid * inside_up, out=to_up)
        return out


class Experts(nn.Module):
    """Router and experts of one layer."""

    def __init__(self, hidden, intermediate, experts, top):
        super().__init__()
        self.top = top
        self.router = nn.Linear(hidden, experts)
        # Unlike in the files, all gates come before all ups.
        self.first = nn.Parameter(torch.randn(experts, 2 * intermediate, hidden) * hidden ** -0.5)
        self.first_bias = nn.Parameter(torch.zeros(experts, 2 * intermediate))
        self.second = nn.Parameter(torch.randn(experts, hidden, intermediate) * 0.5 * intermediate ** -0.5)
        self.second_bias = nn.Parameter(torch.zeros(experts, hidden))
        self.rounding = False
        self.load = None

    def forward(self, rows, balances=None):
        """Returns what the experts make of the rows; adds to `balances` how unevenly they were chosen."""
        logits = self.router(rows)
        scores, chosen = logits.topk(self.top, -1)
        weights = scores.softmax(-1)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.bincount(flat, minlength=logits.shape[-1])
        ends = counts.cumsum(0).tolist()
        if balances is not None:
            # The busier an expert, the dearer its probability.
            share = counts.float() / flat.numel()
            balances.append(len(counts) * (share * logits.softmax(-1).mean(0)).sum())
        self.load = counts
        first, second = self.first, self.second
        if self.rounding and self.training:
            first, second = mxfp4.rounded(first), mxfp4.rounded(second)
        z = Grouped.apply(rows[order // self.top], first, self.first_bias, ends)
        out = Grouped.apply(Gate.apply(z), second, self.second_bias, ends)
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order), device=order.device)
        out = out[back].view(*chosen.shape, -1)
        return (out * weights.unsqueeze(-1)).sum(1)

    @torch.no_grad()
    def round_weights(self):
        """Rounds the weights for good."""
        for weights in (self.first, self.second):
            weights.copy_(mxfp4.dequantize(*mxfp4.quantize(weights)))
