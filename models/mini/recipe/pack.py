"""Packs conversations that share a beginning, and computes their attention without reading the beginning again."""

from dataclasses import dataclass

import torch

from sinks import attend as sinks_of


# Branches whose attention is computed at once: more share a call, fewer share a length.
TOGETHER = 6


@dataclass
class Block:
    """Branches of about one length, padded to `width`."""

    count: int
    width: int
    # For each place of the padded branches its row; padding repeats the first row.
    places: torch.Tensor
    # For each row of the branches its place.
    rows: torch.Tensor


@dataclass
class Group:
    """A beginning of `shared` tokens, then its branches."""

    shared: int
    blocks: list


def block(lengths):
    """Lays out branches of these lengths, whose rows follow one another."""
    width, start = max(lengths), 0
    places, rows = torch.zeros(len(lengths), width, dtype=torch.long), []
    for number, length in enumerate(lengths):
        places[number, :length] = torch.arange(start, start + length)
        rows.append(torch.arange(length) + number * width)
        start += length
    return Block(len(lengths), width, places.flatten(), torch.cat(rows))


class Batch:
    """Tokens of several groups in one flat list."""

    def __init__(self, groups):
        """Takes for each group the ids of the beginning and, for each branch, ids and what is learnt."""
        ids, positions, targets, wanted, self.groups = [], [], [], [], []
        for prefix, branches in groups:
            blocks = []
            ids += prefix
            positions += range(len(prefix))
            branches = sorted(branches, key=lambda branch: len(branch[0]))
            for first in range(0, len(branches), TOGETHER):
                some = branches[first:first + TOGETHER]
                blocks.append(block([len(branch) for branch, _ in some]))
                for branch, learn in some:
                    learnt = [step for step in range(1, len(branch)) if learn[step]]
                    wanted += [len(ids) + step - 1 for step in learnt]
                    targets += [branch[step] for step in learnt]
                    ids += branch
                    positions += range(len(prefix), len(prefix) + len(branch))
            self.groups.append(Group(len(prefix), blocks))
        self.ids, self.positions = torch.tensor(ids), torch.tensor(positions)
        self.wanted, self.targets = torch.tensor(wanted), torch.tensor(targets)
        self.masks = {}
        # Rows of each beginning and of each block.
        self.sizes = [size for group in self.groups for size in (group.shared, *(len(b.rows) for b in group.blocks))]

    def to(self, device):
        for name in ("ids", "positions", "wanted", "targets"):
            setattr(self, name, getattr(self, name).to(device))
        for block in (block for group in self.groups for block in group.blocks):
            block.places, block.rows = block.places.to(device), block.rows.to(device)
        return self

    def mask(self, first, queries, keys, window, heads, like):
        """What `queries` positions from `first` on see of `keys` positions."""
        key = (first, queries, keys, window)
        if key not in self.masks:
            q = torch.arange(first, first + queries, device=like.device).unsqueeze(1)
            k = torch.arange(keys, device=like.device)
            seen = (k <= q) & (q - k < (window or keys + 1))
            mask = torch.zeros(queries, keys, device=like.device).masked_fill_(~seen, float("-inf"))
            self.masks[key] = mask.repeat_interleave(heads, 0)
        return self.masks[key]

    def attend(self, window):
        """Returns the attention for a pass over this batch."""
        def run(index, layer, q, k, v):
            width = window if layer.sliding else None
            parts = zip(*(x.split(self.sizes) for x in (q, k, v)))
            return torch.cat([part for group in self.groups for part in self.group(group, layer, parts, width)])

        return run

    def group(self, group, layer, parts, window):
        """Attention of the beginning, then of the branches."""
        q, k, v = next(parts)
        begin_k, begin_v = (x.transpose(0, 1).unsqueeze(0) for x in (k, v))
        yield self.see(layer, q.unsqueeze(0), begin_k, begin_v, 0, window)[0]
        # No branch of a sliding layer sees more of the beginning than this.
        cut = max(0, group.shared - window + 1) if window else 0
        begin_k, begin_v = begin_k[:, :, cut:], begin_v[:, :, cut:]
        for block in group.blocks:
            queries, own_k, own_v = (x[block.places].unflatten(0, (block.count, block.width)) for x in next(parts))
            keys, values = (torch.cat([begin.expand(block.count, -1, -1, -1), own.transpose(1, 2)], 2)
                            for begin, own in ((begin_k, own_k), (begin_v, own_v)))
            yield self.see(layer, queries, keys, values, group.shared - cut, window).flatten(0, 1)[block.rows]

    def see(self, layer, queries, keys, values, first, window):
        """Attention of queries [n, t, heads, d] to keys [n, key heads, s, d]; all heads of a key head at once."""
        count, width, heads, size = queries.shape
        kv_heads = keys.shape[1]
        share = heads // kv_heads
        queries = queries.unflatten(2, (kv_heads, share)).transpose(1, 2).flatten(2, 3)
        sinks = layer.sinks.view(kv_heads, 1, share).expand(kv_heads, width, share).flatten(1)
        mask = self.mask(first, width, keys.shape[2], window, share, queries)
        out = sinks_of(queries, keys, values, mask, sinks)
        out = out.unflatten(2, (width, share)).transpose(1, 2)
        return out.reshape(count, width, heads * size)
