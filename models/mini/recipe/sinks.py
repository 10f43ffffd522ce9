"""Attention with sinks on the CPU, where torch's fused kernel knows none.

A sink takes a share of each query's attention and gives nothing for it. So what the kernel returns is scaled down by
the share that is left, and the kernel's gradient is right if it is told the sum that includes the sink.
"""

import torch

FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class Sinks(torch.autograd.Function):
    """Queries [n, h, t, d], keys and values [n, h, s, d], a mask [t, s] and a sink for each query [h, t]."""

    @staticmethod
    def forward(ctx, queries, keys, values, mask, sinks):
        scale = queries.shape[-1] ** -0.5
        out, total = FORWARD(queries, keys, values, 0.0, False, attn_mask=mask, scale=scale)
        whole = torch.logaddexp(total, sinks)
        out = out * (total - whole).exp().unsqueeze(-1)
        ctx.save_for_backward(queries, keys, values, mask, sinks, out, whole)
        return out

    @staticmethod
    def backward(ctx, grad):
        queries, keys, values, mask, sinks, out, whole = ctx.saved_tensors
        scale = queries.shape[-1] ** -0.5
        to = BACKWARD(grad, queries, keys, values, out, whole, 0.0, False, attn_mask=mask, scale=scale)
        lost = (grad * out).sum(-1) * (sinks - whole).exp()
        return *to, None, -lost.sum_to_size(sinks.shape)


def plain(queries, keys, values, mask, sinks):
    """The same, step by step, for every device."""
    scores = queries @ keys.mT * queries.shape[-1] ** -0.5 + mask
    sinks = sinks.unsqueeze(-1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1] @ values


def attend(queries, keys, values, mask, sinks):
    if queries.is_cpu:
        return Sinks.apply(queries, keys, values, mask, sinks)
    return plain(queries, keys, values, mask, sinks)
