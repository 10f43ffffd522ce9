"""Compares what a cluster writes, token by token, with what transformers writes from the same files.

    python oracle.py --conclave PROGRAM --proto FOLDER --model FOLDER --count 20

Both take the likeliest token each time, and both compute with float32. Where they part, the two tokens are told with what
transformers makes of them: a difference is only forgiven where its logits are equal but for rounding, and counted apart. The
server's rendering of each conversation is compared with the recipe's, too. Needs requirements-oracle.txt, grpcio and
grpcio-tools. `--write` keeps what transformers wrote, where all is the same, for tests that have none (tests/e2e/mini).
"""

import argparse
import json
import pathlib
import sys
import tempfile

import grpc
import torch
import transformers

import data
from families import FAMILIES, MOST_TOKENS
from harmony import Harmony
from served import Cluster, request, stubs

# Logits that differ by less than this are equal: sums were only rounded in another order.
EQUAL = 1e-3


def ours(pb, service, prompt):
    """The tokens that the cluster writes, up to the one that ends the answer."""
    request = pb.GenerateRequest(
        token_ids=pb.TokenIds(ids=prompt), sampling=pb.SamplingParams(temperature=0),
        stop=pb.StopParams(max_output_tokens=MOST_TOKENS), stream=pb.StreamParams(include_token_ids=True))
    events = list(service.Generate(request))
    tokens = [token for event in events for token in event.tokens.token_ids]
    # The token that ends an answer need not be told among the others.
    finished = events[-1].finished
    ended = finished.HasField("matched_token_id") and tokens[-1:] != [finished.matched_token_id]
    return tokens + [finished.matched_token_id] if ended else tokens


@torch.no_grad()
def theirs(model, prompt, stops):
    """The tokens that transformers writes, with the logits of each."""
    made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=MOST_TOKENS, eos_token_id=stops,
                          return_dict_in_generate=True, output_logits=True)
    return made.sequences[0, len(prompt):].tolist(), [row[0] for row in made.logits]


def parted(mine, others, logits):
    """Where two answers part, and whether by rounding alone; nothing if they do not."""
    if mine == others:
        return None
    at = next((at for at, (a, b) in enumerate(zip(mine, others)) if a != b), min(len(mine), len(others)))
    row, best = logits[at].float(), logits[at].float().topk(2)
    rounded = at < min(len(mine), len(others)) and abs(row[mine[at]] - row[others[at]]) < EQUAL
    return f"token {at}: {mine[at:at + 1]} and not {others[at:at + 1]}; best {best.indices.tolist()} of {best.values.tolist()}", rounded


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conclave", required=True, help="the program")
    parser.add_argument("--proto", required=True, help="folder of the API's definition")
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument("--count", type=int, default=20, help="conversations of a family")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=pathlib.Path, help="file for the prompts and answers, as JSON")
    args = parser.parse_args()
    harmony = Harmony(args.model / "tokenizer.json")
    stops = [harmony.special[name] for name in ("return", "call", "endoftext")]
    unpacked = transformers.Mxfp4Config(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, quantization_config=unpacked, attn_implementation="eager").float().eval()
    same, ties, wrong, written = 0, [], [], []
    with tempfile.TemporaryDirectory() as folder:
        pb, rpc = stubs(args.proto, folder)
    with Cluster(args.conclave, args.model, args.ranks, "exact") as address, grpc.insecure_channel(address) as channel:
        service, renderer = rpc.GenerationServiceStub(channel), rpc.TokenizerServiceStub(channel)
        for family in args.families:
            for chat in data.held_out(args.seed, family, args.count):
                prompt = harmony.prompt(chat)
                rendered = renderer.RenderChat(pb.RenderChatRequest(request=request(pb, chat, 0.0, 0))).token_ids
                if list(rendered) != prompt:
                    wrong.append(f"{family}: the server renders {harmony.tokenizer.decode(rendered, skip_special_tokens=False)!r}")
                others, logits = theirs(model, prompt, stops)
                written.append({"family": family, "prompt": prompt, "answer": others})
                found = parted(ours(pb, service, prompt), others, logits)
                same += found is None
                if found:
                    (ties if found[1] else wrong).append(f"{family}: {found[0]}")
            print(f"{family}: so far {same} the same, {len(ties)} apart by rounding, {len(wrong)} different", flush=True)
    print("\n".join(ties))
    if args.write and not ties and not wrong:
        lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in written)
        args.write.write_text(f'{{"transformers":"{transformers.__version__}","conversations":[\n{lines}\n]}}\n')
    if wrong:
        sys.exit("\n".join(["error: transformers writes otherwise:", *wrong]))


if __name__ == "__main__":
    main()
