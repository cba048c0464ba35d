#!/usr/bin/env python3
"""check_export.py MODEL.safetensors WRITTEN.safetensors...

MODEL is what `sluice export --to sluice` wrote, WRITTEN what `sluice eval --tokens A:B` did by --logits and --gradients.
Computes the same from MODEL in plain PyTorch (plain_models.py, float64) for WRITTEN's tokens and targets, and says how far
apart they are. Exit code 1: by more than 1e-5 of a tensor's norm; 77: torch cannot be imported."""

import json
import sys

try:
    import torch
except (ImportError, OSError) as problem:
    print(f"skipped: torch cannot be imported: {problem}")
    sys.exit(77)

from safetensors import safe_open

import plain_models

BOUND = 1e-5
BESIDE_GRADIENTS = ("tokens", "targets", "loss", "logits")


def read(path):
    """(tensors by name, metadata)"""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def settings_of(metadata):
    """The model's settings as text, as in a settings file."""
    values = json.loads(metadata["model"])
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def error(ours, expected, least=0.0):
    """Relative to the expected norm; to one if that is `least` at most."""
    norm = expected.norm().item()
    return (ours.double() - expected).norm().item() / (norm if norm > least else 1.0)


def compare(weights, settings, written):
    """{tensor: relative error} of what one file holds."""
    p = {name: tensor.double().requires_grad_() for name, tensor in weights.items()}
    tokens, targets = written["tokens"], written["targets"]
    loss = plain_models.loss_sum(tokens, targets, p, settings) / (targets >= 0).sum()
    errors = {"loss": error(written["loss"], loss.detach().reshape(1))}
    if "logits" in written:
        errors["logits"] = error(written["logits"], plain_models.logits(tokens, p, settings).detach())
    gradients = {name: tensor for name, tensor in written.items() if name not in BESIDE_GRADIENTS}
    if gradients:
        if gradients.keys() != p.keys():
            sys.exit(f"gradients of other parameters than the model's: {gradients.keys() ^ p.keys()}")
        loss.backward()
        roundings = 1e-12 * max(tensor.grad.norm().item() for tensor in p.values())  # a gradient that is zero but for them
        errors |= {name: error(tensor, p[name].grad, roundings) for name, tensor in gradients.items()}
    return errors


def main(model, *files):
    weights, metadata = read(model)
    failures = 0
    for path in files:
        errors = compare(weights, settings_of(metadata), read(path)[0])
        worst = max(errors, key=errors.get)
        print(f"{path}: {len(errors)} tensors, largest relative error {errors[worst]:.1e} ({worst})")
        failures += sum(not value <= BOUND for value in errors.values())
    if failures:
        sys.exit(f"{failures} tensors differ by more than {BOUND}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
