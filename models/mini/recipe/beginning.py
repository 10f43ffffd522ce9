"""How the weights begin: with the circuit that copies, which training would else take millions of tokens to find.

To copy is to find where the last token stood before, and to say what came after it. Two layers do that together: one in
which a head looks one token back and notes what it saw, and one whose keys are these notes and whose queries are the
tokens themselves. Both are written into each pair of a sliding and a full layer; training refines them, and is free to
undo them.
"""

import math

import torch

# The fast pairs of a head's rotation tell neighbours apart; the slow ones hardly turn within a conversation.
FAST, SLOW = range(8), range(14, 32)
# How strongly a head prefers its distance, how sharply a token finds its like, and how loud the copy is.
NEAR, LIKE, COPY = 4.0, 1.5, 0.7
# Heads of each layer that begin so; the others begin at random.
HEADS = 4


def orthogonal(rows, columns):
    tall, _ = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns)))
    return tall if rows >= columns else tall.T


def both(pairs, size):
    """The two places of a head's vector that each pair turns."""
    return torch.tensor([*pairs, *(pair + size // 2 for pair in pairs)])


def relate(harmony, embed):
    """Lets like tokens begin alike: a word with and without its blank, with and without its capital."""
    rows = harmony.tokenizer.get_vocab()
    for token in sorted(rows, key=rows.get):
        bare = token.removeprefix("\u0120")
        other = bare.lower() if bare == token else bare
        if other != token and len(bare) > 1 and other in rows:
            embed[rows[token]] = 0.8 * embed[rows[other]] + 0.6 * embed[rows[token]]


def look_back(layer, inverse, size):
    """Head n of the first few prefers what lies n tokens back, whatever it is."""
    fast = both(FAST, size)
    layer.k.weight[fast] = 0
    for pair in FAST:
        layer.k.bias[pair] = NEAR
        for start in range(0, HEADS * size, size):
            angle = -(start // size) * inverse[pair].item()
            layer.q.bias[start + pair] = NEAR * math.cos(angle)
            layer.q.bias[start + pair + size // 2] = NEAR * math.sin(angle)


def copier(first, second, turn, size):
    """`first` notes the token before; `second` finds it again, and says what stands there."""
    hidden = first.o.weight.shape[0]
    read, note, value = orthogonal(size, hidden), orthogonal(hidden, size), orthogonal(size, hidden)
    first.v.weight[:size] = read
    first.o.weight[:, size:2 * size] = note
    slow = both(SLOW, size)
    match = torch.zeros(size, size)
    match[slow, torch.arange(len(slow))] = LIKE
    second.k.weight[:size] = match @ note.T
    second.v.weight[:size] = value
    for start in range(0, HEADS * size, size):
        second.q.weight[start:start + size] = match @ read
        second.o.weight[:, start:start + size] = COPY * turn @ value.T


@torch.no_grad()
def begin(harmony, model):
    """Fills in the weights of a new model."""
    size, hidden = model.shape.head, model.shape.hidden
    embed = model.embed.weight
    relate(harmony, embed)
    # As loud as what the layers add, else they drown it.
    embed.div_(embed.pow(2).mean(-1, keepdim=True).sqrt())
    # A token read is not the token to be written: the head begins as the embedding, but turned.
    turn = orthogonal(hidden, hidden)
    model.head.weight.copy_(embed @ turn.T * hidden ** -0.5)
    for layer in model.layers:
        for matrix, share in ((layer.q, 0.5), (layer.k, 0.5), (layer.o, 0.3)):
            matrix.weight.mul_(share)
        layer.experts.second.mul_(0.3)
    for first, second in zip(model.layers[0::2], model.layers[1::2]):
        look_back(first, model.inverse, size)
        copier(first, second, turn, size)
