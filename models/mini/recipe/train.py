"""Trains the model: unattended, resumable, the same numbers for the same seed.

    python train.py --out FOLDER                   all of it
    python train.py --out FOLDER --steps 300       a short try
"""

import argparse
import concurrent.futures
import json
import pathlib
import random
import time

import torch
import torch.nn.functional as F

import beginning
import data
import vocabulary
from harmony import Harmony
from model import Model, Shape
from optimizer import Muon, optimizers
from pack import Batch

# Shares of the kinds of groups, at the beginning and from a tenth of the training on; a group of one kind is not as
# long as one of another. Copying comes first: all other kinds need it, and would blur what the weights begin with.
KINDS = {"plain": (1, 4), "turns": (0.2, 1.3), "instructions": (0.3, 3), "tools": (2, 7), "echo": (6, 0.7), "drill": (2, 1)}
BRANCHES = 6
# The batch of a step is computed in parts, at once if there are threads.
PARTS = 2


def shares(progress):
    """Returns the weight of each kind."""
    late = min(1, 10 * progress)
    return [first + (last - first) * late for first, last in KINDS.values()]


def draw(harmony, seed, step, part, tokens, progress):
    """Draws one part of the batch of a step."""
    rng, weights = random.Random(f"{seed}/{step}/{part}"), shares(progress)
    groups, total = [], 0
    while total < tokens:
        chats = data.group(rng, rng.choices(list(KINDS), weights)[0], BRANCHES)
        prefix = harmony.prefix(chats[0])
        branches = [harmony.messages(chat.messages) for chat in chats]
        groups.append((prefix, branches))
        total += len(prefix) + sum(len(branch) for branch, _ in branches)
    return Batch(groups)


def rate(step, args):
    """Returns the share of the learning rate: up quickly, then down in a straight line."""
    if step < args.warmup:
        return (step + 1) / args.warmup
    done = (step - args.warmup) / max(1, args.steps - args.warmup)
    return 1 - (1 - args.floor) * done


def save(path, model, made, step, args):
    """Writes the state in full before it replaces the last one."""
    fresh = path.with_suffix(".new")
    torch.save({"step": step, "model": model.state_dict(), "optimizers": [o.state_dict() for o in made],
                "args": {name: str(value) for name, value in vars(args).items()}}, fresh)
    fresh.replace(path)


def arguments(given=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--floor", type=float, default=0.02, help="share of the learning rate at the end")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="learning rate of Adam")
    parser.add_argument("--muon", default="attention", choices=["none", "attention", "all"])
    parser.add_argument("--muon-rate", type=float, default=0.015)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--balance", type=float, default=0.01, help="weight of the balance of experts")
    parser.add_argument("--rounding", type=float, default=0.85, help="share of the steps after which experts are MXFP4")
    parser.add_argument("--hidden", type=int, default=Shape.hidden)
    parser.add_argument("--intermediate", type=int, default=Shape.intermediate)
    parser.add_argument("--stop", type=int, help="stop after this step, as if interrupted")
    parser.add_argument("--every", type=int, default=50, help="steps between lines of the log")
    parser.add_argument("--quiet", action="store_true", help="write the log to its file only")
    parser.add_argument("--rows", type=int, default=vocabulary.ROWS, help="size of a vocabulary that is to be made")
    parser.add_argument("--keep", type=int, default=250, help="steps between saved states")
    return parser.parse_args(given)


class Team:
    """Threads that each compute on one core: parts of a batch are faster so than operations cut in two."""

    def __init__(self, threads):
        torch.set_num_threads(1)
        self.pool = concurrent.futures.ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def map(self, run, items):
        return list(self.pool.map(run, items))


def learn(model, batch, args):
    """One pass forth and back; returns the gradients, the loss, and what the router's balance costs."""
    balances = []
    logits = model(batch.ids, batch.positions, batch.attend(model.shape.window), batch.wanted, balances)
    loss, balance = F.cross_entropy(logits, batch.targets), sum(balances) / len(balances)
    return torch.autograd.grad(loss + args.balance * balance, list(model.parameters())), loss.item(), balance.item()


def begin(args, device):
    """Makes everything, or takes up what was saved: model, optimizers and the first step."""
    words, state = args.out / "tokenizer.json", args.out / "state.pt"
    args.out.mkdir(parents=True, exist_ok=True)
    if not words.exists():
        vocabulary.write(words, args.seed, args.rows)
    harmony = Harmony(words)
    model = Model(Shape(rows=harmony.rows, hidden=args.hidden, intermediate=args.intermediate)).to(device)
    made = optimizers(model, args.muon, args.muon_rate, args.rate, args.decay)
    if not state.exists():
        beginning.begin(harmony, model)
        return harmony, model, made, 0
    saved = torch.load(state, map_location=device)
    model.load_state_dict(saved["model"])
    for optimizer, old in zip(made, saved["optimizers"]):
        optimizer.load_state_dict(old)
    return harmony, model, made, saved["step"]


def advance(model, made, parts, share, args, team):
    """One step of training with a share of the learning rates; returns loss and balance."""
    found = team.map(lambda batch: learn(model, batch, args), parts)
    for p, *grads in zip(model.parameters(), *(grads for grads, _, _ in found)):
        p.grad = sum(grads) / len(parts)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        optimizer.step(**({"each": team.map} if isinstance(optimizer, Muon) else {}))
        optimizer.zero_grad(set_to_none=True)
    return [sum(values) / len(parts) for values in list(zip(*found))[1:]]


def run(args):
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    team = Team(args.threads)
    harmony, model, made, start = begin(args, device)
    since, tokens, losses = time.time(), 0, []
    model.train()
    for step in range(start, args.steps):
        model.rounding(step >= args.rounding * args.steps)
        parts = [draw(harmony, args.seed, step, part, args.tokens // PARTS, step / args.steps).to(device)
                 for part in range(PARTS)]
        losses.append(advance(model, made, parts, rate(step, args), args, team))
        tokens += sum(len(part.ids) for part in parts)
        if (step + 1) % args.every == 0:
            loss, balance = (round(sum(values) / len(values), 4) for values in zip(*losses))
            line = json.dumps({"step": step + 1, "loss": loss, "balance": balance,
                               "tokens_per_second": round(tokens / (time.time() - since))})
            with open(args.out / "log.jsonl", "a") as log:
                print(line, file=log)
            if not args.quiet:
                print(line, flush=True)
            since, tokens, losses = time.time(), 0, []
        if (step + 1) % args.keep == 0 or step + 1 in (args.steps, args.stop):
            save(args.out / "state.pt", model, made, step + 1, args)
        if step + 1 == args.stop:
            return
    for layer in model.layers:
        layer.experts.round_weights()
    torch.save({"model": model.state_dict()}, args.out / "model.pt")


if __name__ == "__main__":
    run(arguments())
