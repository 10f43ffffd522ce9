"""Trains the model: unattended, resumable, the same numbers for the same seed.

    python train.py --out FOLDER                   all of it
    python train.py --out FOLDER --steps 300       a short try
"""

import argparse
import hashlib
import json
import pathlib
import random
import sys
import time

import torch
import torch.nn.functional as F

import beginning
import data
import vocabulary
from harmony import Harmony
from model import Model, Shape
from optimizer import optimizers
from pack import Batch

BRANCHES = 6
# What a run may not change when it is resumed.
FIXED = ("recipe", "rows", "steps", "tokens", "seed", "warmup", "floor", "rate", "muon", "muon_rate", "decay", "balance", "rounding", "hidden", "intermediate")
# The batch of a step is computed in parts, at once if there are threads.
PARTS = 2


def draw(harmony, seed, step, part, tokens, progress):
    """Draws one part of the batch of a step."""
    rng, weights = random.Random(f"{seed}/{step}/{part}"), data.shares(progress)
    groups, total = [], 0
    while total < tokens:
        chats = data.group(rng, rng.choices(list(data.KINDS), weights)[0], BRANCHES)
        prefix, branches = harmony.prefix(chats[0]), []
        total += len(prefix)
        # Both parts of a step are cut to about the same length, so that neither process waits for the other.
        while chats and (total < tokens or not branches):
            branches.append(harmony.messages(chats.pop().messages))
            total += len(branches[-1][0])
        groups.append((prefix, branches))
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
    parser.add_argument("--steps", type=int, default=5200)
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
    return parser.parse_args(given, argparse.Namespace(recipe=digest()))


def learn(model, harmony, step, part, args):
    """Draws a part of a step's batch, one pass forth and back; returns the gradients and what is told of it."""
    device = model.embed.weight.device
    batch = draw(harmony, args.seed, step, part, args.tokens // PARTS, step / args.steps).to(device)
    model.rounding(step >= args.rounding * args.steps)
    balances = []
    logits = model(batch.ids, batch.positions, batch.attend(model.shape.window), batch.wanted, balances)
    loss, balance = F.cross_entropy(logits, batch.targets), sum(balances) / len(balances)
    grads = torch.autograd.grad(loss + args.balance * balance, list(model.parameters()))
    return grads, (loss.item(), balance.item(), len(batch.ids))


class Alone:
    """Computes the parts one after the other."""

    def __init__(self, model, harmony, args):
        self.model, self.harmony, self.args = model, harmony, args

    def learn(self, step):
        return [learn(self.model, self.harmony, step, part, self.args) for part in range(PARTS)]

    def end(self):
        pass


def next_step(pipe):
    """The next step to compute; nothing when there is none, or nobody who asks."""
    try:
        return pipe.recv()
    except EOFError:
        return None


class Pair(Alone):
    """Two processes with the same weights, each with a part on a core of its own: neither waits within a step."""

    def __init__(self, model, harmony, args):
        super().__init__(model, harmony, args)
        model.share_memory()
        self.grads = [torch.zeros_like(p).share_memory_() for p in model.parameters()]
        self.pipe, other = torch.multiprocessing.Pipe()
        fork = torch.multiprocessing.get_context("fork")
        self.process = fork.Process(target=self.serve, args=(other,), daemon=True)
        self.process.start()

    def serve(self, pipe):
        """The second process: a step comes in, gradients go where both see them."""
        # Its own copy of the other end would keep it from noticing that the first process is gone.
        self.pipe.close()
        while (step := next_step(pipe)) is not None:
            grads, told = learn(self.model, self.harmony, step, 1, self.args)
            for shared, grad in zip(self.grads, grads):
                shared.copy_(grad)
            pipe.send(told)

    def learn(self, step):
        self.pipe.send(step)
        first = learn(self.model, self.harmony, step, 0, self.args)
        return [first, (self.grads, self.pipe.recv())]

    def end(self):
        self.pipe.send(None)
        self.process.join()


# Files that read and score what was trained, and change nothing of it.
AFTERWARDS = {"evaluate.py", "export.py", "families.py", "generate.py", "oracle.py", "served.py"}


def digest():
    """What the files are that train: a run that is resumed by others would be of no recipe."""
    files = sorted(path for path in pathlib.Path(__file__).parent.glob("*.py") if path.name not in AFTERWARDS)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def begin(args, device):
    """Makes everything, or takes up what was saved: model, optimizers and the first step."""
    words, state = args.out / "tokenizer.json", args.out / "state.pt"
    args.out.mkdir(parents=True, exist_ok=True)
    # What has saved no step may have been begun with another seed.
    if not (words.exists() and state.exists()):
        vocabulary.write(words, args.seed, args.rows)
    harmony = Harmony(words)
    model = Model(Shape(rows=max(args.rows, harmony.rows), hidden=args.hidden, intermediate=args.intermediate))
    if not state.exists():
        beginning.begin(harmony, model)
    model.to(device)
    made = optimizers(model, args.muon, args.muon_rate, args.rate, args.decay)
    if not state.exists():
        save(state, model, made, 0, args)
        return harmony, model, made, 0
    saved = torch.load(state, map_location=device)
    changed = [name for name, value in vars(args).items() if name in FIXED and saved["args"][name] != str(value)]
    if changed:
        sys.exit(f"error: {state} was begun with another {', '.join(changed)}: repeat the same, or use another --out")
    model.load_state_dict(saved["model"])
    for optimizer, old in zip(made, saved["optimizers"]):
        optimizer.load_state_dict(old)
    return harmony, model, made, saved["step"]


def advance(model, made, found, share):
    """One step of training with a share of the learning rates; returns loss, balance and tokens."""
    for p, *grads in zip(model.parameters(), *(grads for grads, _ in found)):
        p.grad = sum(grads) / len(found)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    loss, balance, tokens = (sum(values) for values in zip(*(told for _, told in found)))
    return loss / len(found), balance / len(found), tokens


def tell(step, told, seconds, args):
    """A line of the log."""
    loss, balance, tokens = (sum(values) for values in zip(*told))
    line = json.dumps({"step": step, "loss": round(loss / len(told), 4), "balance": round(balance / len(told), 4),
                       "tokens_per_second": round(tokens / seconds), "left_minutes": round((args.steps - step) * seconds / len(told) / 60, 1)})
    with open(args.out / "log.jsonl", "a") as log:
        print(line, file=log)
    if not args.quiet:
        print(line, flush=True)


def run(args):
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    harmony, model, made, start = begin(args, device)
    model.train()
    team = (Pair if device == "cpu" and args.threads > 1 else Alone)(model, harmony, args)
    since, told, step = time.time(), [], start - 1
    for step in range(start, args.steps):
        told.append(advance(model, made, team.learn(step), rate(step, args)))
        if (step + 1) % args.every == 0:
            tell(step + 1, told, time.time() - since, args)
            since, told = time.time(), []
        if (step + 1) % args.keep == 0 or step + 1 in (args.steps, args.stop):
            save(args.out / "state.pt", model, made, step + 1, args)
        if step + 1 == args.stop:
            break
    team.end()
    if step + 1 < args.steps:
        return
    for layer in model.layers:
        layer.experts.round_weights()
    torch.save({"model": model.state_dict()}, args.out / "model.pt")


if __name__ == "__main__":
    run(arguments())
