"""Muon for matrices inside the model, Adam for the rest."""

import torch


def orthogonal(x, steps=5):
    """Brings the singular values of matrices [..., m, n] near one, by Newton and Schulz' iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is made orthogonal; an expert tensor is a stack of matrices."""

    def __init__(self, params, lr, momentum=0.95, decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self):
        """Updates all matrices."""
        for group in self.param_groups:
            for p in group["params"]:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                self.update(group, p)

    @torch.no_grad()
    def update(self, group, p):
        momentum = self.state[p]["momentum"].lerp_(p.grad, 1 - group["momentum"])
        update = p.grad.lerp(momentum, group["momentum"])
        # Gates and ups, stacked in one tensor, are two matrices.
        halves = 2 if p.dim() == 3 and p.shape[-2] > p.shape[-1] else 1
        update = orthogonal(update.unflatten(-2, (halves, -1)))
        scale = max(1.0, update.shape[-2] / update.shape[-1]) ** 0.5
        p.mul_(1 - group["lr"] * group["decay"])
        p.add_(update.flatten(-3, -2), alpha=-group["lr"] * scale)


def optimizers(model, muon, rate_muon, rate_adam, decay):
    """Splits the parameters: `muon` is "none", "attention" or "all"."""
    stacks, matrices, rest = [], [], []
    for name, p in model.named_parameters():
        inside = name.startswith("layers") and p.dim() >= 2 and "bias" not in name and "router" not in name
        if inside and (muon == "all" or (muon == "attention" and "experts" not in name)):
            stacks.append(p)
        elif p.dim() >= 2 and "bias" not in name and "embed" not in name:
            matrices.append(p)
        elif "embed" not in name:
            rest.append(p)
    # The numbers of the embedding are larger than all others, and each token's change only when it is met.
    embed = {"params": [model.embed.weight], "weight_decay": 0.0, "lr": 5 * rate_adam}
    adam = torch.optim.AdamW([{"params": matrices, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}, embed],
                             lr=rate_adam, betas=(0.9, 0.98), eps=1e-9)
    made = [adam] + ([Muon(stacks, rate_muon, decay=decay)] if stacks else [])
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made
