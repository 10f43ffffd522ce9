"""Scores a checkpoint on conversations that were never trained on.

    python evaluate.py --checkpoint FOLDER --count 200
"""

import argparse
import collections
import json
import pathlib
import sys
import time

import torch

import data
from export import read
from families import FAMILIES, MOST_TOKENS, is_right
from generate import complete
from harmony import Harmony, parse
from pack import Batch

TOGETHER = 64
# The busiest expert of a layer takes less than this many times the mean.
MOST_OF_MEAN = 4


def score(model, harmony, family, count, temperature, seed=0, show=0):
    """Returns shares of right and well-formed completions, and the mean length of the analysis by effort."""
    chats = data.held_out(seed, family, count)
    stops = [harmony.special[name] for name in ("return", "call", "endoftext")]
    right = formed = 0
    lengths = collections.defaultdict(list)
    # It may have fewer.
    count = len(chats)
    for start in range(0, count, TOGETHER):
        some = chats[start:start + TOGETHER]
        prompts = [harmony.prompt(chat) for chat in some]
        for at, (chat, ids) in enumerate(zip(some, complete(model, prompts, stops, MOST_TOKENS, temperature, start))):
            messages = parse(harmony, ids)
            good = messages is not None and is_right(chat, messages)
            formed += messages is not None
            right += good
            if messages:
                lengths[chat.effort].append(sum(len(harmony.text(m.text)) for m in messages if m.channel == "analysis"))
            if start == 0 and at < show:
                asked = [message.text for message in chat.messages if not message.learn][-1]
                print(f"  {'right' if good else 'WRONG'} {asked!r} -> {harmony.tokenizer.decode(ids, skip_special_tokens=False)}")
    means = {effort: round(sum(values) / len(values), 1) for effort, values in sorted(lengths.items())}
    return {"family": family, "count": count, "right": right / count, "formed": formed / count, "analysis": means}


@torch.no_grad()
def loads(model, harmony, seed=0):
    """Returns for each layer the share of the busiest expert over the mean, and how many experts are idle."""
    chats = [chat for family in FAMILIES for chat in data.held_out(seed, family, 12)]
    totals = [0 for _ in model.layers]
    for chat in chats:
        ids, learn = harmony.messages(chat.messages)
        batch = Batch([(harmony.prefix(chat), [(ids, learn)])])
        model(batch.ids, batch.positions, batch.attend(model.shape.window))
        totals = [total + layer.experts.load for total, layer in zip(totals, model.layers)]
    return [{"busiest": round((load.max() / load.float().mean()).item(), 2), "idle": int((load == 0).sum())} for load in totals]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1000, help="prompts of a family")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=0, help="completions to print of each family")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    try:
        harmony, model = Harmony(args.checkpoint / "tokenizer.json"), read(args.checkpoint)
    except Exception as error:
        # The tokenizer's library raises nothing narrower.
        sys.exit(f"error: --checkpoint {args.checkpoint} cannot be read as what export.py writes: {error!r}")
    for family in args.families:
        start = time.time()
        found = score(model, harmony, family, args.count, args.temperature, args.seed, args.show)
        print(json.dumps(found | {"seconds": round(time.time() - start, 1)}), flush=True)
    experts = loads(model, harmony, args.seed)
    print(json.dumps({"experts": experts}))
    if any(layer["idle"] or layer["busiest"] >= MOST_OF_MEAN for layer in experts):
        sys.exit(f"error: an expert is idle, or has {MOST_OF_MEAN} times the rows of the mean")


if __name__ == "__main__":
    main()
