#!/usr/bin/env python3
"""steps.py SLUICE: 20 optimizer steps from the same weights on the same tokens (of the run's ledger) have the same losses as
plain PyTorch with torch.optim.AdamW in float64, to 1e-4: a gMLP, an aMLP and a Transformer. Exit code 77: torch cannot be
imported."""

import json
import math
import pathlib
import sys
import tempfile

try:
    import torch
except (ImportError, OSError) as problem:
    print(f"skipped: torch cannot be imported: {problem}")
    sys.exit(77)

import h5py
import safetensors.numpy

import check_export
import plain_models
from parameter_shapes import shapes
from program import VOCABULARY, done, draw, import_weights, make_corpus

BOUND = 1e-4
STEPS, WARMUP, BATCH, LR, MIN_LR, CLIP, DECAY, BETAS, EPS = 20, 4, 6, 5e-3, 0.1, 1.0, 0.1, (0.9, 0.98), 1e-8
MODELS = {
    "gmlp": {"seq_len": "16"},
    "amlp": {"seq_len": "16", "tiny_attention": "8", "tied": "false"},
    "transformer": {"kind": "transformer", "seq_len": "16", "heads": "4", "positions": "learned", "gelu": "tanh"},
}


def learning_rate(step):
    """Linear warm-up, then a cosine from LR at its end to MIN_LR of it in the last step."""
    if step < WARMUP:
        return LR * (step + 1) / WARMUP
    share = (step - WARMUP) / (STEPS - 1 - WARMUP)
    return LR * (MIN_LR + (1 - MIN_LR) * 0.5 * (1 + math.cos(math.pi * share)))


def train_tokens(corpus):
    shards = json.loads((corpus / "corpus.json").read_text())["splits"]["train"]["shards"]
    return torch.cat([torch.from_numpy(h5py.File(corpus / shard["file"])["tokens"][:].astype("int64")) for shard in shards])


def plain_losses(weights, settings, tokens, ledger):
    p = {name: tensor.double().requires_grad_() for name, tensor in weights.items()}
    decays = [tensor for name, tensor in p.items() if not name.endswith((".bias", "norm.weight"))]
    others = [tensor for name, tensor in p.items() if name.endswith((".bias", "norm.weight"))]
    optimizer = torch.optim.AdamW([{"params": decays, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], betas=BETAS,
                                  eps=EPS)
    losses = []
    for step, line in enumerate(ledger):
        windows = torch.stack([tokens[begin:end] for begin, end in zip(line["begin"], line["end"])])
        loss = plain_models.loss_sum(windows[:, :-1], windows[:, 1:], p, settings) / windows[:, 1:].numel()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), CLIP)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def trained_losses(program, folder, corpus, name, checkpoint):
    """(losses, ledger) of a run that starts from the checkpoint's weights."""
    run, ledger = pathlib.Path(folder, name + "-run"), pathlib.Path(folder, name + ".ledger")
    settings = {"train.steps": STEPS, "train.global_batch": BATCH, "train.micro_batch": 4, "train.init_from": checkpoint,
                "train.ledger": ledger, "train.ledger_detail": "full", "train.device": "cpu", "train.threads": 1, "optim.lr": LR,
                "optim.schedule": "cosine", "optim.warmup_steps": WARMUP, "optim.min_lr": MIN_LR, "optim.clip": CLIP,
                "optim.weight_decay": DECAY, "optim.betas": f"{BETAS[0]},{BETAS[1]}", "optim.eps": EPS, "eval.every": 0,
                "checkpoint.every": 0, "data.corpus": corpus, "run.dir": run}
    done(program, "train", "--config", pathlib.Path(folder, name + ".ini"), *(f"--{key}={value}" for key, value in settings.items()))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"], [json.loads(line) for line in ledger.read_text().splitlines()]


def main(program):
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(program, folder)
        for name, settings in MODELS.items():
            file = pathlib.Path(folder, name + ".safetensors")
            safetensors.numpy.save_file(draw(shapes(settings, VOCABULARY), 1), file)
            checkpoint = import_weights(program, folder, file, "sluice", settings, corpus, name)
            ours, ledger = trained_losses(program, folder, corpus, name, checkpoint)
            done(program, "export", "--checkpoint", checkpoint, "--to", "sluice", "--out", file)
            weights, metadata = check_export.read(file)
            plain = plain_losses(weights, check_export.settings_of(metadata), train_tokens(corpus), ledger)
            if len(ours) != STEPS or not plain[-1] < 0.95 * plain[0]:
                sys.exit(f"{name}: {len(ours)} steps, plain PyTorch's loss goes from {plain[0]} to {plain[-1]}: nothing was learned")
            worst = max(abs(a - b) for a, b in zip(ours, plain))
            print(f"{name}: losses {plain[0]:.4f} to {plain[-1]:.4f} over {STEPS} steps, differ by at most {worst:.1e}")
            failures += not worst <= BOUND
    if failures:
        sys.exit(f"losses of {failures} models differ by more than {BOUND}")


main(sys.argv[1])
