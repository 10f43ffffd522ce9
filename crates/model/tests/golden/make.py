#!/usr/bin/env python3
"""Make the golden files: what transformers' GptOssForCausalLM computes in float32 on the CPU.

The checkpoints come from this repository and the programs of requirements.txt from PyPI; nothing
else is read. From the repository's root:

    cargo run -p model --example write_golden_checkpoints -- /tmp/golden
    python3 crates/model/tests/golden/make.py /tmp/golden

A golden is NAME.safetensors. Its metadata, all strings, repeats the case of cases.json and adds the
checkpoint's fingerprint and the versions that made it. Its tensors, with T rows (all positions of
the prompt, or the last ones only), L layers, k experts a token:

    inv_freq      f32 [head_dim / 2]  the rotary frequencies, as torch computed them
    vocab_ids     i32 [8]             which logits are kept
    logits        f32 [T, 8]
    log_sum_exp   f32 [T]             of all logits of the row
    argmax        i32 [T]
    margin        f32 [T]             from the largest logit to the next
    experts       u8  [L, T, k]       chosen experts, best first
    router_margin f32 [L, T]          from the last expert chosen to the next
    greedy        i32 [N]             greedy continuation, with the KV cache
    greedy_margin f32 [N]             from each one's logit to the next

and, where the case names positions under "stages", for those positions (P):

    stage.embedding          f32 [P, hidden]
    stage.LAYER.q|k|v        f32 [P, heads, head_dim]  after rotation
    stage.LAYER.attended     f32 [P, heads, head_dim]  before the output projection
    stage.LAYER.router       f32 [P, experts]          logits
    stage.LAYER.mixture      f32 [P, hidden]           what the experts add to the stream

Margins are kept so that a test does not demand a choice that lies inside its own error.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import GptOssForCausalLM, Mxfp4Config
from transformers.models.gpt_oss import modeling_gpt_oss

HERE = Path(__file__).resolve().parent
KEPT_LOGITS = 8
MASK = (1 << 64) - 1


def token_ids(seed, count, vocab):
    """SplitMix64, so that the Rust tests make the same ids."""
    ids = []
    for i in range(1, count + 1):
        z = (seed + i * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        ids.append((z ^ (z >> 31)) % vocab)
    return ids


def top_margin(values, count):
    """From the count-th largest value of each row to the next one."""
    best = torch.topk(values, count + 1, dim=-1).values
    return best[..., count - 1] - best[..., count]


class Trace:
    """Collects, while the model runs, what the hooks see; one entry a chunk and layer."""

    def __init__(self, model, with_stages):
        self.router, self.experts = [], []
        self.embedding, self.attention, self.mixture = [], [], []
        self.with_stages = with_stages
        self.last_layer = model.config.num_hidden_layers - 1
        self.last_layer_is_read = True
        self.hooks = []
        for layer in model.model.layers:
            self._hook(layer.mlp.router, self._on_router)
            if with_stages:
                self._hook(layer.mlp, lambda out: self.mixture.append(out[0][0]))
        if with_stages:
            self._hook(model.model.embed_tokens, lambda out: self.embedding.append(out[0]))
        self.eager = modeling_gpt_oss.eager_attention_forward
        modeling_gpt_oss.eager_attention_forward = self._on_attention

    def _hook(self, module, take):
        self.hooks.append(module.register_forward_hook(lambda _m, _in, out: take(out)))

    def _on_router(self, out):
        logits, _weights, index = out
        self.router.append(logits)
        self.experts.append(index)

    def _on_attention(self, module, q, k, v, *args, **kwargs):
        if module.layer_idx == self.last_layer and not self.last_layer_is_read:
            return torch.zeros_like(q.transpose(1, 2)), None
        attended, weights = self.eager(module, q, k, v, *args, **kwargs)
        if self.with_stages:
            self.attention.append([x[0].transpose(0, 1) for x in (q, k, v)] + [attended[0]])
        return attended, weights

    def close(self):
        for hook in self.hooks:
            hook.remove()
        modeling_gpt_oss.eager_attention_forward = self.eager


def prefill(model, ids, chunk, keep, trace):
    """Run the prompt; the logits of its last `keep` rows and the cache.

    What the last layer's attention gives for the rows before them goes nowhere (its keys and values
    do not depend on it), so it is left out: at 131,072 tokens it is nearly all of the work.
    """
    cache, kept = None, []
    for start in range(0, len(ids), chunk):
        part = torch.tensor([ids[start : start + chunk]])
        rows = max(0, min(part.shape[1], start + part.shape[1] - (len(ids) - keep)))
        trace.last_layer_is_read = rows > 0
        # At least one row: zero would mean all of them.
        out = model(part, past_key_values=cache, use_cache=True, logits_to_keep=max(1, rows))
        cache = out.past_key_values
        if rows:
            kept.append(out.logits[0])
    return torch.cat(kept), cache


def greedy(model, row, cache, count):
    tokens, margins = [], []
    for i in range(count):
        tokens.append(int(row.argmax()))
        margins.append(float(top_margin(row, 1)))
        if i + 1 < count:
            out = model(torch.tensor([tokens[-1:]]), past_key_values=cache, use_cache=True)
            row = out.logits[0, -1]
    return tokens, margins


def stages(trace, positions, layers):
    """The tensors of every stage, at the positions asked for. The prompt ran in one chunk."""
    tensors = {"stage.embedding": trace.embedding[0][positions]}
    for layer in range(layers):
        for name, value in zip(("q", "k", "v", "attended"), trace.attention[layer]):
            tensors[f"stage.{layer}.{name}"] = value[positions]
        tensors[f"stage.{layer}.router"] = trace.router[layer][positions]
        tensors[f"stage.{layer}.mixture"] = trace.mixture[layer][positions]
    return tensors


def make(case, folder):
    checkpoint = folder / case["name"]
    model = GptOssForCausalLM.from_pretrained(
        checkpoint,
        dtype=torch.float32,
        attn_implementation="eager",
        quantization_config=Mxfp4Config(dequantize=True),
    ).eval()
    config = model.config
    ids = token_ids(case["seed"], case["tokens"], config.vocab_size)
    keep = case.get("last_rows", len(ids))
    trace = Trace(model, "stages" in case)
    logits, cache = prefill(model, ids, case.get("chunk", len(ids)), keep, trace)
    trace.close()
    tokens, margins = greedy(model, logits[-1], cache, case["greedy"])

    layers, k = config.num_hidden_layers, config.num_experts_per_tok
    whole = [torch.cat(trace.router[i::layers])[-keep:] for i in range(layers)]
    chosen = [torch.cat(trace.experts[i::layers])[-keep:] for i in range(layers)]
    kept = np.linspace(0, config.vocab_size - 1, KEPT_LOGITS).astype(np.int32)
    tensors = {
        "inv_freq": model.model.rotary_emb.inv_freq,
        "logits": logits[:, kept],
        "log_sum_exp": torch.logsumexp(logits.double(), -1),
        "margin": top_margin(logits, 1),
        "router_margin": torch.stack([top_margin(x, k) for x in whole]),
    }
    if "stages" in case:
        tensors |= stages(trace, case["stages"], layers)
    arrays = {name: x.detach().numpy().astype(np.float32) for name, x in tensors.items()}
    arrays |= {
        "vocab_ids": kept,
        "argmax": logits.argmax(-1).numpy().astype(np.int32),
        "experts": torch.stack(chosen).numpy().astype(np.uint8),
        "greedy": np.array(tokens, np.int32),
        "greedy_margin": np.array(margins, np.float32),
    }
    arrays = {name: np.ascontiguousarray(x) for name, x in arrays.items()}
    metadata = {name: json.dumps(value) for name, value in case.items() if name != "about"}
    metadata["fingerprint"] = (folder / f"{case['name']}.fingerprint").read_text().strip()
    metadata["torch"], metadata["transformers"] = torch.__version__, transformers.__version__
    save_file(arrays, HERE / f"{case['name']}.safetensors", metadata)
    print(
        f"largest logit {logits.abs().max():.1f},",
        f"nearest choice of an expert {arrays['router_margin'].min():.1e},",
        f"of a token {min(margins, default=0):.1e}",
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path, help="folder with the cases' checkpoints")
    parser.add_argument("--only", help="cases whose name holds this")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for case in json.loads((HERE / "cases.json").read_text()):
        if args.only and args.only not in case["name"]:
            continue
        start = time.monotonic()
        print(f"{case['name']}: {case['about']}", flush=True)
        with torch.no_grad():
            make(case, args.checkpoints)
        print(f"  {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
