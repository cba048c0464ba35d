"""One training step of a causal gMLP or a GPT-2 in PyTorch, as a careful user writes it, to stand beside `sluice bench step`.

    python3 peer_torch.py --config configs/models/base.ini --train.micro_batch=64 --train.global_batch=64 \\
        --train.precision=bf16 --vocabulary 32000 [--mode compile] [--steps 20] [--warmup 3]
    torchrun --nproc-per-node 2 peer_torch.py ...        DistributedDataParallel; global_batch is micro_batch times ranks

Settings are those of `sluice bench step`, from the same files. bf16 is autocast over fp32 parameters, AdamW the fused one,
gradients are clipped at norm 1, tokens are random and already on the device. Prints one JSON line. A step is timed on the
host's clock between two synchronisations, as a loop that reads its loss has them; `free_running` is the mean of as many
steps without any. Only the ratio of two runs on the same machine, taken in turns, means anything.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time

BEGAN = time.perf_counter()

import torch
from torch import distributed, nn
from torch.nn import functional

import settings


class Block(nn.Module):
    """Pre-norm block whose gate half is normalised and mixed over positions by a lower triangular matrix."""

    def __init__(self, size):
        super().__init__()
        d, half, n = size["d_model"], size["d_ffn"] // 2, size["seq_len"]
        self.norm = nn.LayerNorm(d)
        self.expand = nn.Linear(d, 2 * half)
        self.gate_norm = nn.LayerNorm(half)
        self.spatial_weight = nn.Parameter(torch.empty(n, n).uniform_(-1e-3 / n, 1e-3 / n))
        self.spatial_bias = nn.Parameter(torch.ones(n, 1))
        self.contract = nn.Linear(half, d)
        self.register_buffer("mask", torch.ones(n, n).tril())

    def forward(self, x):
        bypass, gate = functional.gelu(self.expand(self.norm(x))).chunk(2, dim=-1)
        mixed = (self.spatial_weight * self.mask) @ self.gate_norm(gate) + self.spatial_bias
        return x + self.contract(bypass * mixed)


class AttentionBlock(nn.Module):
    """GPT-2's, with PyTorch's fused attention."""

    def __init__(self, size):
        super().__init__()
        d, self.heads = size["d_model"], size["heads"]
        self.attention_norm, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp_norm, self.expand, self.contract = nn.LayerNorm(d), nn.Linear(d, size["d_ffn"]), nn.Linear(size["d_ffn"], d)

    def forward(self, x):
        parts = self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.contract(functional.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))


class LanguageModel(nn.Module):
    """Mean cross entropy of next tokens; the output projection shares the embedding's weights."""

    def __init__(self, kind, size, vocabulary):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, size["d_model"])
        nn.init.normal_(self.embed.weight, std=0.02)
        self.positions = nn.Parameter(0.02 * torch.randn(size["seq_len"], size["d_model"])) if kind == "transformer" else None
        block = {"gmlp": Block, "transformer": AttentionBlock}[kind]
        self.blocks = nn.Sequential(*(block(size) for _ in range(size["layers"])))
        self.final_norm = nn.LayerNorm(size["d_model"])

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions
        logits = functional.linear(self.final_norm(self.blocks(x)), self.embed.weight)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--vocabulary", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured")
    parser.add_argument("--warmup", type=int, default=3, help="steps before them, the first one not counted")
    parser.add_argument("--label", default="", help="repeated in the output")
    parser.add_argument("--json", action="store_true", help="the only form; taken so that command lines can be alike")
    parser.add_argument("--wait-for", type=pathlib.Path, metavar="FILE",
                        help="after the first step write FILE.ready, free what can be freed, and go on once FILE exists")
    own, words = parser.parse_known_args()
    return own, settings.read(words)


class Step:
    """Model, optimizer and data of one rank, and the step that is timed."""

    def __init__(self, own, values, device, world):
        micro, whole = int(values["train.micro_batch"]), int(values["train.global_batch"])
        if whole != micro * world:
            raise SystemExit(f"train.global_batch={whole}: the peer takes micro_batch times ranks, {micro * world}")
        size = {**settings.model_sizes(values), "heads": int(values["model.heads"])}
        self.device, self.tokens = device, whole * size["seq_len"]
        self.bf16 = values["train.precision"] == "bf16"
        if values["train.precision"] not in ("bf16", "tf32", "fp32"):
            raise SystemExit(f"train.precision={values['train.precision']}: the peer has fp32, tf32 and bf16")
        torch.backends.cuda.matmul.allow_tf32 = values["train.precision"] != "fp32"
        torch.manual_seed(0)
        model = LanguageModel(values["model.kind"], size, own.vocabulary).to(device)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.1, fused=True)
        if world > 1:
            ids = [device.index] if device.type == "cuda" else None
            model = nn.parallel.DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True)
        self.model = torch.compile(model) if own.mode == "compile" else model
        window = torch.randint(0, own.vocabulary, (micro, size["seq_len"] + 1), device=device)
        self.inputs, self.targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()

    def run(self):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.model(self.inputs, self.targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def synchronise(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self):
        """Seconds of one step, by the wall and of this process's CPU time."""
        self.synchronise()
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.synchronise()
        return time.perf_counter() - wall, time.process_time() - cpu

    def first(self, patience_s):
        """The first step, compilation with it. Where the GPU is full because others are at their first step too, tries
        again: their memory is free after it."""
        end = time.monotonic() + patience_s
        while True:
            try:
                return self.timed()[0]
            except torch.OutOfMemoryError:
                if time.monotonic() > end:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            time.sleep(2)


def wait_for(file, step):
    """Tells that the first step is done and leaves the device to others until `file` is there."""
    if step.device.type == "cuda":
        torch.cuda.empty_cache()
    file.with_name(file.name + ".ready").touch()
    parent = os.getppid()
    while not file.exists():
        if os.getppid() != parent:
            sys.exit("whoever was to write the file has gone")
        time.sleep(0.05)


def measure(own, step):
    """Timings of this rank, in the keys of `sluice bench step`."""
    first_s = step.first(patience_s=120 if own.wait_for else 0)
    first_ready_s = time.perf_counter() - BEGAN
    if own.wait_for:
        wait_for(own.wait_for, step)
    for _ in range(own.warmup):
        step.timed()
    times = [step.timed() for _ in range(own.steps)]
    began = time.perf_counter()
    for _ in range(own.steps):
        loss = step.run()
    step.synchronise()
    free_s = (time.perf_counter() - began) / own.steps
    if not torch.isfinite(loss):
        raise SystemExit(f"the loss became {loss.item()}")
    wall = sorted(seconds for seconds, _ in times)
    return {
        "tokens_per_s": step.tokens / statistics.median(wall),
        "tokens_per_s_free_running": step.tokens / free_s,
        "tokens_per_cpu_s": step.tokens / statistics.median(cpu for _, cpu in times),
        "step_s": {"median": statistics.median(wall), "p10": wall[len(wall) // 10], "p90": wall[-1 - len(wall) // 10],
                   "min": wall[0], "max": wall[-1]},
        "first_step_s": first_s,
        "start_to_first_step_s": first_ready_s,
        "loss": loss.item(),
    }


def main():
    own, values = parse_arguments()
    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    cuda = torch.cuda.is_available() if own.device == "auto" else own.device == "cuda"
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    if int(values["train.threads"]) > 0:
        torch.set_num_threads(int(values["train.threads"]))
    if cuda:
        torch.cuda.set_device(device)
    if world > 1:
        distributed.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    step = Step(own, values, device, world)
    result = {
        "peer": f"torch {torch.__version__}", "label": own.label, "mode": own.mode, "ranks": world,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu", "threads": torch.get_num_threads(),
        "precision": values["train.precision"],
        "parameters": sum(p.numel() for p in step.parameters), "tokens_per_step": step.tokens, "steps": own.steps,
        **measure(own, step),
    }
    result["tokens_per_s_per_gpu"] = result["tokens_per_s"] / world
    result["tokens_per_cpu_s"] /= world
    result["tflops"] = result["tokens_per_s_per_gpu"] * settings.flops_per_token(values, own.vocabulary) / 1e12
    if cuda:
        result["memory"] = {"peak_gib": torch.cuda.max_memory_allocated(device) / 2**30,
                            "reserved_peak_gib": torch.cuda.max_memory_reserved(device) / 2**30}
    if rank == 0:
        print(json.dumps(result), flush=True)
    if world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
