#!/usr/bin/env python3
"""parity.py PARITY_DUMP: logits, loss and every parameter's gradient of our models in fp32 equal those of plain_models.py
in float64, from the same parameters and tokens, to 1e-5 of each tensor's norm. Exit code 77: torch cannot be imported."""

import json
import pathlib
import struct
import subprocess
import sys
import tempfile

try:
    import torch
except (ImportError, OSError) as error:
    print(f"skipped: torch cannot be imported: {error}")
    sys.exit(77)

import plain_models
from parameter_shapes import DEFAULTS

BOUND = 1e-5
GPT2 = {"kind": "transformer", "heads": "4", "positions": "learned", "gelu": "tanh"}
LLAMA = {"kind": "transformer", "heads": "3", "positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": "false",
         "tied": "false"}
# parity_dump takes the whole sequence where a name has an even number of letters, a shorter one otherwise.
CASES = {
    "gmlp": {}, "gmlp1": {}, "gmlp_untied": {"tied": "false", "head_bias": "true", "positions": "sinusoidal"},
    "gpt2": GPT2, "gpt2_": GPT2, "gpt2_untied": {**GPT2, "tied": "false"}, "gpt2_exact": {**GPT2, "gelu": "exact"},
    "gpt2_no_bias": {**GPT2, "bias": "false"}, "gpt2_eps": {**GPT2, "norm_eps": "0.2"},
    "llama": LLAMA, "llama_": LLAMA, "llama_tied": {**LLAMA, "tied": "true"},
    "llama_base_500": {**LLAMA, "rotary_base": "500"}, "llama_bias": {**LLAMA, "bias": "true"},
    "rms_gelu": {**GPT2, "norm": "rms", "positions": "none"}, "layer_swiglu": {**LLAMA, "norm": "layer", "bias": "true"},
    "sinusoidal": {**GPT2, "positions": "sinusoidal", "scale_embedding": "true", "head_bias": "true"},
    "one_head": {**GPT2, "heads": "1", "layers": "1"}, "head_of_one_channel": {**GPT2, "heads": "24"},
    "deep": {**LLAMA, "layers": "6"},
}

AMLP = {"tiny_attention": "6"}
# Each causal and not, tied and untied, of the whole length and shorter.
GMLP_VARIANTS = {
    "plain": {}, "multiplicative": {"gate": "multiplicative"}, "additive": {"gate": "additive"}, "linear": {"gate": "linear"},
    "odd_ffn": {"gate": "additive", "d_ffn": "37"}, "toeplitz": {"spatial": "toeplitz"}, "heads": {"spatial_heads": "4"},
    "toeplitz_heads": {"spatial": "toeplitz", "spatial_heads": "5"},
    "amlp": AMLP, "amlp_no_qkv_bias": {**AMLP, "tiny_attention_qkv_bias": "false"},
    "amlp_toeplitz": {**AMLP, "spatial": "toeplitz"}, "amlp_linear": {**AMLP, "gate": "linear"},
    "tanh": {"gate_activation": "tanh"}, "sigmoid": {"gate_activation": "sigmoid"}, "relu": {"gate_activation": "relu"},
    "gelu": {"gate_activation": "gelu", "gelu": "tanh"}, "no_gate_norm": {"gate_norm": "false"},
    "gelu_tanh": {"gelu": "tanh"}, "shift": {"token_shift": "1"}, "shift_far": {"token_shift": "4"},
    "lucidrains": {**AMLP, "spatial_heads": "2", "gate_activation": "tanh", "tiny_attention_qkv_bias": "false",
                   "token_shift": "1", "head_bias": "true"},
    "all": {**AMLP, "gate": "multiplicative", "spatial": "toeplitz", "spatial_heads": "2", "gate_activation": "sigmoid",
            "gate_norm": "false", "gelu": "tanh", "token_shift": "2", "d_ffn": "38"},
}
for variant, changes in GMLP_VARIANTS.items():
    for causal in ("true", "false"):
        for tied in ("true", "false"):
            name = f"gmlp_{variant}_{'causal' if causal == 'true' else 'both_ways'}_{'tied' if tied == 'true' else 'untied'}"
            both = {**changes, "causal": causal, "tied": tied}
            CASES[name], CASES[name + "_"] = both, both


BERT = {"kind": "transformer", "heads": "4"}
RELATIVE = {**BERT, "positions": "relative"}
TRANSFORMERS = {
    "gpt2": GPT2, "llama": LLAMA, "no_positions": BERT, "rotary": {**BERT, "positions": "rotary"},
    "sinusoids": {**BERT, "positions": "sinusoidal", "scale_embedding": "true", "head_bias": "true"},
    "rms": {**BERT, "norm": "rms"}, "swiglu": {**BERT, "positions": "learned", "mlp": "swiglu"},
    "learned": {**BERT, "positions": "learned"}, "relative": RELATIVE,
    "relative_far": {**RELATIVE, "seq_len": "150", "layers": "1", "d_model": "8", "heads": "2"},
    "relative_llama": {**LLAMA, "positions": "relative"}, "minus_attn": {**RELATIVE, "attention": "positions_only"},
    "minus_attn_no_bias": {**RELATIVE, "attention": "positions_only", "bias": "false", "heads": "1"},
}
ENCODERS = {"learned_relative": {**BERT, "positions": "learned+relative"},
            "learned_minus_attn": {**BERT, "positions": "learned+relative", "attention": "positions_only"}}
MIXERS = {"mixer": {"kind": "mixer", "causal": "false"},
          "mixer_learned": {"kind": "mixer", "causal": "false", "d_spatial": "9", "positions": "learned", "gelu": "tanh"},
          "mixer_sinusoidal": {"kind": "mixer", "causal": "false", "positions": "sinusoidal", "scale_embedding": "true",
                               "head_bias": "true"}}
for variant, changes in [*TRANSFORMERS.items(), *ENCODERS.items(), *MIXERS.items()]:
    for causal in ("true", "false") if variant in TRANSFORMERS else ("false",):
        for tied in ("true", "false"):
            name = f"{variant}_{'causal' if causal == 'true' else 'both_ways'}_{'tied' if tied == 'true' else 'untied'}"
            both = {**changes, "causal": causal, "tied": tied}
            CASES[name], CASES[name + "_"] = both, both


def read_safetensors(file):
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, entry in json.loads(data[8: 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        dtype = {"F32": torch.float32, "F64": torch.float64}[entry["dtype"]]
        tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=dtype).reshape(entry["shape"]).double()
    return tensors


def error(ours, expected, zero=0.0):
    """Relative to the expected norm; to one if that is `zero` at most."""
    norm = expected.norm().item()
    return (ours - expected).norm().item() / (norm if norm > zero else 1.0)


def compare(settings, ours):
    """{what: relative error}"""
    p = {name.removeprefix("parameter."): t.clone().requires_grad_() for name, t in ours.items() if name.startswith("parameter.")}
    tokens, targets = ours["tokens"].long(), ours["targets"].long()
    loss = plain_models.loss_sum(tokens, targets, p, settings)
    loss.backward()
    errors = {"logits": error(ours["logits"], plain_models.logits(tokens, p, settings).detach()),
              "loss": error(ours["loss"], loss.detach().reshape(1))}
    # A mixer's token.contract.bias adds one number to all channels of a position, which every norm takes off: its gradient
    # is zero but for roundings.
    roundings = 1e-12 * max(parameter.grad.norm().item() for parameter in p.values())
    for name, parameter in p.items():
        errors[name] = error(ours["gradient." + name], parameter.grad, roundings)
    return errors


def main():
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, changes in CASES.items():
            lines = [f"{key} = {value}" for key, value in changes.items()]
            sizes = [f"{key} = {DEFAULTS[key]}" for key in ("layers", "d_model", "d_ffn", "seq_len") if key not in changes]
            sizes += [f"d_spatial = {DEFAULTS['d_spatial']}"] if changes.get("kind") == "mixer" and "d_spatial" not in changes else []
            pathlib.Path(folder, name + ".ini").write_text("\n".join(["[model]", *lines, *sizes]) + "\n")
        subprocess.run([sys.argv[1], folder], check=True)
        for name, changes in CASES.items():
            errors = compare({**DEFAULTS, **changes}, read_safetensors(pathlib.Path(folder, name + ".safetensors")))
            worst = max(errors, key=errors.get)
            print(f"{name}: {len(errors)} tensors, largest error {errors[worst]:.1e} ({worst})")
            failures += sum(not value <= BOUND for value in errors.values())
    if failures:
        sys.exit(f"{failures} tensors differ by more than {BOUND}")


main()
