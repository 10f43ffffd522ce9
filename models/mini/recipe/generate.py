"""Writes with the model: many prompts at once, with a cache of keys and values."""

import torch


class Cache:
    """Keys and values of a batch of sequences, each at its own length."""

    def __init__(self, shape, count, room):
        size = (shape.layers, count, shape.kv_heads, room, shape.head)
        self.keys, self.values = torch.zeros(size), torch.zeros(size)
        self.window = shape.window

    def attend(self, sequences, positions):
        """Attention for rows of which row i lies at `positions[i]` of `sequences[i]`; fills the cache first."""
        def run(index, layer, q, k, v):
            self.keys[index][sequences, :, positions] = k
            self.values[index][sequences, :, positions] = v
            end = int(positions.max()) + 1
            count, width = self.shape_of(sequences)
            heads, size = q.shape[1:]
            at = positions.view(count, width, 1)
            key = torch.arange(end)
            seen = key <= at
            if layer.sliding:
                seen &= at - key < self.window
            order = sequences.view(count, width)[:, 0]
            keys, values = self.keys[index][order, :, :end], self.values[index][order, :, :end]
            kv_heads = keys.shape[1]
            q = q.view(count, width, kv_heads, heads // kv_heads, size).permute(0, 2, 3, 1, 4)
            scores = torch.einsum("nkhtd,nksd->nkhts", q, keys) * size ** -0.5
            scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
            sinks = layer.sinks.view(1, kv_heads, heads // kv_heads, 1, 1).expand(*scores.shape[:-1], 1)
            shares = torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
            out = torch.einsum("nkhts,nksd->nkhtd", shares, values)
            return out.permute(0, 3, 1, 2, 4).reshape(count * width, heads * size)

        return run

    @staticmethod
    def shape_of(sequences):
        """Rows come sequence after sequence, each with as many positions."""
        count = len(sequences.unique())
        return count, len(sequences) // count


def pick(logits, temperature, dice):
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits / temperature).softmax(-1), 1, generator=dice).squeeze(-1)


@torch.no_grad()
def complete(model, prompts, stops, most, temperature=0.0, seed=0):
    """Returns the completion of each prompt, with the token that ended it."""
    model.eval()
    dice = torch.Generator().manual_seed(seed)
    count, longest = len(prompts), max(map(len, prompts))
    cache = Cache(model.shape, count, longest + most)
    # Shorter prompts are padded at the end; what is written there is overwritten before it is seen.
    padded = torch.zeros(count, longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        padded[row, :len(prompt)] = torch.tensor(prompt)
    sequences = torch.arange(count).repeat_interleave(longest)
    positions = torch.arange(longest).repeat(count)
    lengths = torch.tensor([len(prompt) for prompt in prompts])
    last = torch.arange(count) * longest + lengths - 1
    logits = model(padded.flatten(), positions, cache.attend(sequences, positions), last)
    out = [[] for _ in prompts]
    active = torch.arange(count)
    for _ in range(most):
        tokens = pick(logits, temperature, dice)
        for row, token in zip(active.tolist(), tokens.tolist()):
            out[row].append(token)
        going = torch.tensor([token not in stops for token in tokens.tolist()])
        active, tokens = active[going], tokens[going]
        if not len(active):
            break
        at = lengths[active]
        lengths[active] += 1
        logits = model(tokens, at, cache.attend(active, at))
    return out
