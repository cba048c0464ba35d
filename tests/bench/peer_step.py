"""One training step of a causal gMLP in eager or compiled PyTorch, to stand beside `sluice bench step`.

    python tests/bench/peer_step.py --threads 1 [--compile] [--layers 4 --d-model 128 ...] [--steps 20]

Forward, backward, clipping at norm 1 and fused AdamW on random tokens, float32, CPU. Prints one JSON line:
tokens/s from the median step, by wall clock and by CPU time of the process (the figure to compare when the
machine is shared).
Only the ratio of two runs on the same machine, taken in turns, means anything.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


class Gmlp(nn.Module):
    """Pre-norm blocks whose gate half is normalised and mixed over positions by a lower triangular matrix."""

    def __init__(self, size):
        super().__init__()
        half = size.d_ffn // 2
        self.embed = nn.Embedding(size.vocabulary, size.d_model)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.final_norm = nn.LayerNorm(size.d_model)
        self.register_buffer("mask", torch.ones(size.seq_len, size.seq_len).tril())
        self.blocks = nn.ModuleList()
        for _ in range(size.layers):
            bound = 1e-3 / size.seq_len
            spatial = torch.empty(size.seq_len, size.seq_len).uniform_(-bound, bound)
            self.blocks.append(nn.ModuleDict({
                "norm": nn.LayerNorm(size.d_model),
                "expand": nn.Linear(size.d_model, size.d_ffn),
                "gate_norm": nn.LayerNorm(half),
                "spatial": nn.ParameterDict({"weight": spatial, "bias": torch.ones(size.seq_len, 1)}),
                "contract": nn.Linear(half, size.d_model),
            }))

    def forward(self, tokens, targets):
        x = self.embed(tokens)
        for block in self.blocks:
            bypass, gate = functional.gelu(block["expand"](block["norm"](x))).chunk(2, dim=-1)
            spatial = block["spatial"]
            mixed = (spatial["weight"] * self.mask) @ block["gate_norm"](gate) + spatial["bias"]
            x = x + block["contract"](bypass * mixed)
        logits = functional.linear(self.final_norm(x), self.embed.weight)
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def measure(step, count, warm_up=3):
    wall, cpu = [], []
    for i in range(count + warm_up):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        step()
        if i >= warm_up:
            wall.append(time.perf_counter() - wall_start)
            cpu.append(time.process_time() - cpu_start)
    return statistics.median(wall), statistics.median(cpu)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 4, "d-model": 128, "d-ffn": 512, "seq-len": 128, "vocabulary": 256, "batch": 8}
    for name, default in {**sizes, "threads": 1, "steps": 20}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    model = Gmlp(options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if options.compile else model
    window = torch.randint(0, options.vocabulary, (options.batch, options.seq_len + 1))

    def step():
        forward(window[:, :-1], window[:, 1:]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    wall_s, cpu_s = measure(step, options.steps)
    tokens = options.batch * options.seq_len
    print(json.dumps({
        "peer": f"torch {torch.__version__}", "mode": "compile" if options.compile else "eager",
        "threads": options.threads,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_s": round(tokens / wall_s), "tokens_per_cpu_s": round(tokens / cpu_s),
        "step_s": round(wall_s, 5), "step_cpu_s": round(cpu_s, 5),
    }))


if __name__ == "__main__":
    main()
