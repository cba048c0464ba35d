#!/usr/bin/env python3
"""layouts.py SLUICE: models of labml, g-mlp-pytorch and GPT-2, in plain PyTorch by the names of their tensors and their own
conventions, with random weights: imported, they have the same logits to 1e-5, whole and short; and what eval wrote of them
passes check_export.py. Exit code 77: torch cannot be imported."""

import math
import pathlib
import sys
import tempfile

try:
    import torch
    import torch.nn.functional as F
except (ImportError, OSError) as problem:
    print(f"skipped: torch cannot be imported: {problem}")
    sys.exit(77)

import safetensors.torch

import check_export
from program import VOCABULARY, done, draw, import_weights, make_corpus

BOUND = 1e-5
D, FFN, N, LAYERS = 24, 40, 9, 2


def normed(x, t, name):
    return F.layer_norm(x, x.shape[-1:], t[name + ".weight"], t[name + ".bias"])


def dense(x, t, name):
    return F.linear(x, t[name + ".weight"], t.get(name + ".bias"))


def pair(name, *shape):
    return {name + ".weight": shape, name + ".bias": shape[:1]}


# labml: positions first, embeddings times sqrt(d) plus a table that is saved with the weights, W times a mask.
def labml_shapes():
    block = {**pair("norm", D), **pair("proj1", FFN, D), **pair("sgu.norm", FFN // 2), "sgu.weight": (N, N), "sgu.bias": (N,),
             **pair("proj2", D, FFN // 2)}
    return {"src_embed.linear.weight": (VOCABULARY, D), **pair("encoder.norm", D), **pair("generator.projection", VOCABULARY, D),
            **{f"encoder.layers.{i}.{name}": shape for i in range(LAYERS) for name, shape in block.items()}}


def labml_table():
    frequency = torch.exp(torch.arange(0, D, 2) * -(math.log(10000.0) / D))
    angle = torch.arange(5000)[:, None] * frequency
    return torch.stack([torch.sin(angle), torch.cos(angle)], -1).reshape(5000, 1, D)


def labml(tokens, t, _):
    length = tokens.shape[1]
    x = t["src_embed.linear.weight"][tokens.T] * math.sqrt(D) + t["src_embed.positional_encodings"][:length]
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    for i in range(LAYERS):
        name = f"encoder.layers.{i}."
        bypass, gate = F.gelu(dense(normed(x, t, name + "norm"), t, name + "proj1")).chunk(2, -1)
        weight = t[name + "sgu.weight"][:length, :length] * mask
        gate = torch.einsum("ij,jbd->ibd", weight, normed(gate, t, name + "sgu.norm")) + t[name + "sgu.bias"][:length, None, None]
        x = x + dense(bypass * gate, t, name + "proj2")
    return dense(normed(x, t, "encoder.norm"), t, "generator.projection").transpose(0, 1)


# g-mlp-pytorch: batch first, W [heads, n, n] or of a Conv1d, attention without biases of queries, keys and values.
def gmlp_shapes(o):
    spatial = {"sgu.proj.weight": (N, N, 1), "sgu.proj.bias": (N,)} if o["conv1d"] else {
        "sgu.weight": (o["heads"], N, N), "sgu.bias": (o["heads"], N)}
    attention = {"attn.to_qkv.weight": (3 * o["attn"], D), **pair("attn.to_out", FFN // 2, o["attn"])} if o["attn"] else {}
    block = {**pair("proj_in.0", FFN, D), **attention, **pair("sgu.norm", FFN // 2), **spatial, **pair("proj_out", D, FFN // 2)}
    names = {"to_embed.weight": (VOCABULARY, D), **pair("to_logits.0", D), **pair("to_logits.1", VOCABULARY, D)}
    for i in range(LAYERS):
        names |= {**pair(f"layers.{i}.fn.norm", D), **{f"layers.{i}.{o['wrap']}.{name}": shape for name, shape in block.items()}}
    return {o["prefix"] + name: shape for name, shape in names.items()}


def shifted(x, reach, causal):
    amounts = range(0 if causal else -reach, reach + 1)
    width = x.shape[-1] // len(amounts)
    groups = [F.pad(x[..., k * width: (k + 1) * width], (0, 0, by, -by)) for k, by in enumerate(amounts)]
    return torch.cat([*groups, x[..., width * len(amounts):]], -1)


def gmlp_attention(x, t, name, o):
    query, key, value = dense(x, t, name + "to_qkv").chunk(3, -1)
    scores = query @ key.transpose(1, 2) * o["attn"] ** -0.5
    if o["causal"]:
        scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1), -math.inf)
    return dense(scores.softmax(-1) @ value, t, name + "to_out")


def gmlp(tokens, t, o):
    t = {name.removeprefix(o["prefix"]): tensor for name, tensor in t.items()}
    length = tokens.shape[1]
    x = t["to_embed.weight"][tokens]
    for i in range(LAYERS):
        name = f"layers.{i}.{o['wrap']}."
        y = shifted(normed(x, t, f"layers.{i}.fn.norm"), o["shift"], o["causal"])
        bypass, gate = F.gelu(dense(y, t, name + "proj_in.0")).chunk(2, -1)
        gate = normed(gate, t, name + "sgu.norm").unflatten(-1, (o["heads"], -1))
        spatial = name + ("sgu.proj" if o["conv1d"] else "sgu")
        weight = t[spatial + ".weight"].reshape(o["heads"], N, N)[:, :length, :length]
        if o["causal"]:
            weight = weight.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(1), 0.0)
        bias = t[spatial + ".bias"].reshape(o["heads"], N)[:, :length].T
        gate = (torch.einsum("hij,bjhc->bihc", weight, gate) + bias[:, :, None]).flatten(2)
        if o["attn"]:
            gate = gate + gmlp_attention(y, t, name + "attn.", o)
        x = x + dense(o["act"](gate) * bypass, t, name + "proj_out")
    return dense(normed(x, t, "to_logits.0"), t, "to_logits.1")


# GPT-2 as Hugging Face has it: products are x W + b with W [in, out].
def gpt2_shapes(o):
    def conv1d(name, width, out):
        return {name + ".weight": (width, out), name + ".bias": (out,)}
    block = {**pair("ln_1", D), **conv1d("attn.c_attn", D, 3 * D), **conv1d("attn.c_proj", D, D), **pair("ln_2", D),
             **conv1d("mlp.c_fc", D, FFN), **conv1d("mlp.c_proj", FFN, D)}
    names = {"wte.weight": (VOCABULARY, D), "wpe.weight": (N, D), **pair("ln_f", D),
             **{f"h.{i}.{name}": shape for i in range(LAYERS) for name, shape in block.items()}}
    return {**{o["prefix"] + name: shape for name, shape in names.items()}, **({} if o["tied"] else {"lm_head.weight": (VOCABULARY, D)})}


def gpt2(tokens, t, o):
    head = t[o["prefix"] + "wte.weight"] if o["tied"] else t["lm_head.weight"]
    t = {name.removeprefix(o["prefix"]): tensor for name, tensor in t.items()}

    def conv1d(x, name):
        return x @ t[name + ".weight"] + t[name + ".bias"]
    x = t["wte.weight"][tokens] + t["wpe.weight"][: tokens.shape[1]]
    for i in range(LAYERS):
        parts = conv1d(normed(x, t, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn").split(D, -1)
        heads = [part.unflatten(-1, (o["heads"], -1)).transpose(1, 2) for part in parts]
        attended = F.scaled_dot_product_attention(*heads, is_causal=True).transpose(1, 2).flatten(2)
        x = x + conv1d(attended, f"h.{i}.attn.c_proj")
        hidden = F.gelu(conv1d(normed(x, t, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc"), approximate="tanh")
        x = x + conv1d(hidden, f"h.{i}.mlp.c_proj")
    return normed(x, t, "ln_f") @ head.T


UNTIED = {"tied": "false", "head_bias": "true"}
LATEST = {"prefix": "", "wrap": "fn.fn.fn", "conv1d": False, "heads": 1, "attn": 0, "shift": 0, "causal": True, "act": lambda g: g}
GPT2 = {"kind": "transformer", "heads": "4", "positions": "learned", "gelu": "tanh"}
# name: layout, settings, its model's own, that model, its tensors' shapes
CASES = {
    "labml": ("labml", {**UNTIED, "positions": "sinusoidal", "scale_embedding": "true"}, {}, labml, lambda o: labml_shapes()),
    "gmlp": ("g-mlp-pytorch", UNTIED, LATEST, gmlp, gmlp_shapes),
    "gmlp_all": ("g-mlp-pytorch", {**UNTIED, "spatial_heads": "2", "tiny_attention": "6", "tiny_attention_qkv_bias": "false",
                                   "gate_activation": "tanh", "token_shift": "1"},
                 {**LATEST, "prefix": "net.", "heads": 2, "attn": 6, "shift": 1, "act": torch.tanh}, gmlp, gmlp_shapes),
    "gmlp_both_ways": ("g-mlp-pytorch", {**UNTIED, "causal": "false", "token_shift": "1"}, {**LATEST, "causal": False, "shift": 1}, gmlp,
                       gmlp_shapes),
    "gmlp_conv1d": ("g-mlp-pytorch", UNTIED, {**LATEST, "wrap": "fn.fn", "conv1d": True}, gmlp, gmlp_shapes),
    "gmlp_before_shifts": ("g-mlp-pytorch", {**UNTIED, "spatial_heads": "2"}, {**LATEST, "wrap": "fn.fn", "heads": 2}, gmlp, gmlp_shapes),
    "gpt2": ("gpt2", GPT2, {"prefix": "", "tied": True, "heads": 4}, gpt2, gpt2_shapes),
    "gpt2_untied": ("gpt2", {**GPT2, "tied": "false"}, {"prefix": "transformer.", "tied": False, "heads": 4}, gpt2, gpt2_shapes),
}


def check(program, folder, corpus, name):
    """The largest relative error of logits."""
    layout, settings, own, model, shapes = CASES[name]
    weights = {key: torch.from_numpy(values) for key, values in draw(shapes(own), len(name)).items()}
    if layout == "labml":
        weights["src_embed.positional_encodings"] = labml_table()
    file = pathlib.Path(folder, name + ".safetensors")
    safetensors.torch.save_file(weights, file)
    checkpoint = import_weights(program, folder, file, layout, settings, corpus, name)
    worst = 0.0
    lengths = (N, 3 * N) if settings.get("causal") == "false" else (N - 2, 3 * N)
    for length in lengths:
        written = pathlib.Path(folder, "written.safetensors")
        done(program, "eval", "--checkpoint", checkpoint, "--corpus", corpus, "--tokens", f"5:{5 + length}", "--logits", written,
             "--gradients", str(written) + ".gradients", "--threads", 1)
        tensors, _ = check_export.read(written)
        expected = model(tensors["tokens"], {key: tensor.double() for key, tensor in weights.items()}, own)
        worst = max(worst, check_export.error(tensors["logits"], expected))
    exported = pathlib.Path(folder, "exported.safetensors")
    done(program, "export", "--checkpoint", checkpoint, "--to", "sluice", "--out", exported)
    check_export.main(exported, written, str(written) + ".gradients")
    return worst


def main(program):
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(program, folder)
        for name in CASES:
            worst = check(program, folder, corpus, name)
            print(f"{name}: logits differ by {worst:.1e}")
            failures += not worst <= BOUND
    if failures:
        sys.exit(f"logits of {failures} models differ by more than {BOUND}")


main(sys.argv[1])
