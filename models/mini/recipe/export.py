"""Writes a trained model as a checkpoint in the published layout, and reads one back.

    python export.py --run FOLDER --to FOLDER
"""

import argparse
import json
import pathlib
import shutil
import struct

import torch

import mxfp4
from harmony import Harmony
from model import Model, Shape

VERSION = "4.55.0.dev0"
POSITIONS = 131_072
TEMPERATURE = 0.2
FILE = "model-00000-of-00000.safetensors"
TYPES = {torch.bfloat16: "BF16", torch.uint8: "U8"}


def config(shape, special):
    """config.json, with the keys and in the order of the published one."""
    return {
        "architectures": ["GptOssForCausalLM"], "attention_bias": True, "attention_dropout": 0.0,
        "eos_token_id": special["return"], "experts_per_token": shape.top, "head_dim": shape.head, "hidden_act": "silu",
        "hidden_size": shape.hidden, "initial_context_length": shape.original, "initializer_range": 0.02,
        "intermediate_size": shape.intermediate,
        "layer_types": [["sliding_attention", "full_attention"][at % 2] for at in range(shape.layers)],
        "max_position_embeddings": POSITIONS, "model_type": "gpt_oss", "num_attention_heads": shape.heads,
        "num_experts_per_tok": shape.top, "num_hidden_layers": shape.layers, "num_key_value_heads": shape.kv_heads,
        "num_local_experts": shape.experts, "output_router_logits": False, "pad_token_id": special["endoftext"],
        "quantization_config": {
            "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens",
                                       "lm_head"],
            "quant_method": "mxfp4"},
        "rms_norm_eps": shape.eps,
        "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": shape.factor,
                         "original_max_position_embeddings": shape.original, "rope_type": "yarn", "truncate": False},
        "rope_theta": shape.theta, "router_aux_loss_coef": 0.9, "sliding_window": shape.window, "swiglu_limit": 7.0,
        "tie_word_embeddings": False, "transformers_version": VERSION, "use_cache": True, "vocab_size": shape.rows}


def interleave(stacked):
    """All gates before all ups, to rows that take turns."""
    return torch.stack(stacked.chunk(2, 1), 2).flatten(1, 2)


def apart(rows):
    """Rows that take turns, to all gates before all ups."""
    return torch.cat([rows[:, 0::2], rows[:, 1::2]], 1)


# Names in a layer of the file, in the order of the published index, and in `Layer`.
PLAIN = {
    "input_layernorm.weight": "before.weight", "self_attn.o_proj.bias": "o.bias", "self_attn.o_proj.weight": "o.weight",
    "self_attn.q_proj.bias": "q.bias", "self_attn.k_proj.bias": "k.bias", "self_attn.v_proj.bias": "v.bias",
    "self_attn.q_proj.weight": "q.weight", "self_attn.k_proj.weight": "k.weight", "self_attn.v_proj.weight": "v.weight",
    "self_attn.sinks": "sinks", "mlp.router.bias": "experts.router.bias", "mlp.router.weight": "experts.router.weight",
    "post_attention_layernorm.weight": "after.weight"}
ENDS = {"model.embed_tokens.weight": "embed.weight", "model.norm.weight": "norm.weight", "lm_head.weight": "head.weight"}


def tensors(model):
    """All tensors of the file by name."""
    state, out = model.state_dict(), {}
    for index in range(model.shape.layers):
        theirs, ours = f"model.layers.{index}.", f"layers.{index}."
        for name, source in PLAIN.items():
            out[theirs + name] = state[ours + source].bfloat16()
        pairs = [("gate_up_proj", interleave(state[ours + "experts.first"]), interleave(state[ours + "experts.first_bias"])),
                 ("down_proj", state[ours + "experts.second"], state[ours + "experts.second_bias"])]
        for name, weights, biases in pairs:
            at = f"{theirs}mlp.experts.{name}"
            out[f"{at}_bias"] = biases.bfloat16()
            out[f"{at}_blocks"], out[f"{at}_scales"] = mxfp4.quantize(weights)
    for name, source in ENDS.items():
        out[name] = state[source].bfloat16()
    return {name: tensor.contiguous() for name, tensor in out.items()}


def write_tensors(path, found):
    """Writes a safetensors file: wide numbers first, then by name, the data without gaps."""
    order = sorted(found, key=lambda name: (-found[name].element_size(), name))
    header, offset = {}, 0
    for name in order:
        size = found[name].numel() * found[name].element_size()
        header[name] = {"dtype": TYPES[found[name].dtype], "shape": list(found[name].shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in order:
            file.write(found[name].flatten().view(torch.uint8).numpy().tobytes())
    return offset


def write(model, words, folder):
    """Writes the whole folder."""
    folder.mkdir(parents=True, exist_ok=True)
    special = Harmony(words).special
    start = Harmony(words).tokenizer.token_to_id("<|startoftext|>")
    found = tensors(model)
    total = write_tensors(folder / FILE, found)
    index = {"metadata": {"total_size": total}, "weight_map": dict.fromkeys(found, FILE)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    # Small models are sure of little: sampled from all they think possible, they stray.
    generation = {"bos_token_id": start, "do_sample": True, "temperature": TEMPERATURE,
                  "eos_token_id": [special["return"], special["endoftext"], special["call"]],
                  "pad_token_id": special["endoftext"], "transformers_version": VERSION}
    for name, value in (("config.json", config(model.shape, special)), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    shutil.copy(words, folder / "tokenizer.json")


def read(folder):
    """Reads such a folder back: the model as it will be served."""
    raw = (folder / FILE).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8:8 + size]), bytearray(raw[8 + size:])
    types = {name: dtype for dtype, name in TYPES.items()}

    def load(name):
        start, end = header[name]["data_offsets"]
        flat = torch.frombuffer(data, dtype=torch.uint8, offset=start, count=end - start)
        return flat.clone().view(types[header[name]["dtype"]]).view(header[name]["shape"])

    c = json.loads((folder / "config.json").read_text())
    shape = Shape(rows=c["vocab_size"], layers=c["num_hidden_layers"], hidden=c["hidden_size"],
                  intermediate=c["intermediate_size"], experts=c["num_local_experts"], top=c["num_experts_per_tok"],
                  heads=c["num_attention_heads"], kv_heads=c["num_key_value_heads"], head=c["head_dim"],
                  window=c["sliding_window"])
    state = {source: load(name).float() for name, source in ENDS.items()}
    for index in range(shape.layers):
        theirs, ours = f"model.layers.{index}.", f"layers.{index}."
        state |= {ours + source: load(theirs + name).float() for name, source in PLAIN.items()}
        for name, part, order in (("gate_up_proj", "first", apart), ("down_proj", "second", lambda rows: rows)):
            at = f"{theirs}mlp.experts.{name}"
            weights = mxfp4.dequantize(load(f"{at}_blocks"), load(f"{at}_scales"))
            state[f"{ours}experts.{part}"] = order(weights)
            state[f"{ours}experts.{part}_bias"] = order(load(f"{at}_bias").float())
    model = Model(shape)
    model.load_state_dict(state)
    return model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=pathlib.Path, help="folder in which a model was trained")
    parser.add_argument("--to", required=True, type=pathlib.Path, help="folder of the checkpoint")
    args = parser.parse_args()
    done = args.run / "model.pt"
    # An unfinished training can be looked at too.
    saved = torch.load(done if done.exists() else args.run / "state.pt", map_location="cpu")
    state = saved["model"]
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    shape = Shape(rows=len(state["embed.weight"]), layers=layers, hidden=state["embed.weight"].shape[1],
                  intermediate=state["layers.0.experts.second"].shape[-1])
    model = Model(shape)
    model.load_state_dict(state)
    write(model, args.run / "tokenizer.json", args.to)


if __name__ == "__main__":
    main()
