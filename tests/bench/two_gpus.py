"""two_gpus.sh: how well a step scales from one GPU of this host to several, at the same batch on each (weak scaling).

For each batch a GPU: sluice on one GPU and on all, plain and with ZeRO-1, by parallel.exchange = auto and by either way that it takes,
and the PyTorch peer alone and under DistributedDataParallel. One GPU is each of them: a copy of the program on every GPU at once, that have nothing to do with one
another. Efficiency is tokens/s over the sum of those copies', each program against itself. GPUs at their power limit differ by some
per cent, and ranks that exchange gradients go at the pace of the slowest: `of slowest` is against its copy alone, which is what
the exchange costs."""

import argparse
import os
import pathlib
import tempfile

from side_by_side import (ROOT, Clock, Lines, Size, end_children_when_told_to, number, peer_command, run, run_on_each,
                          sluice_command, table)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="two_gpus.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Words that are no option of this go to sluice bench step alone.")
    parser.add_argument("--model", default="base", help="a file of configs/models")
    parser.add_argument("--batches", default="64,16", help="sequences a GPU")
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--peer", default="compile", choices=["none", "eager", "compile"])
    parser.add_argument("--ways", default="auto,peer_memory,host_memory", help="parallel.exchange of the ranks with ZeRO-1")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "tf32", "fp32"])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1, help="turns of all programs; the best of each counts, all are kept")
    parser.add_argument("--limit", type=float, default=240, metavar="S", help="seconds for one program, at most")
    parser.add_argument("--budget", type=float, default=3600, metavar="S", help="seconds for everything; the rest is left out")
    parser.add_argument("--out", default=str(ROOT / "build/bench/two_gpus.jsonl"), metavar="FILE")
    own, own.words = parser.parse_known_args()
    return own


def programs(own, batch):
    """(name, ranks, command) of one batch, each one-GPU run beside what is compared with it."""
    size = Size(f"{own.model} B{batch}", own.model, batch)
    count = ["--steps", str(own.steps), "--warmup", str(own.warmup)]

    def words(ranks):
        return size.words(ranks, own.precision) + count

    yield "sluice", 1, sluice_command(words(1) + own.words)
    yield "sluice", own.gpus, sluice_command(words(own.gpus) + own.words, own.gpus)
    for way in own.ways.split(","):
        zero = words(own.gpus) + own.words + ["--parallel.zero=1", f"--parallel.exchange={way}"]
        yield f"sluice ZeRO-1, {way}", own.gpus, sluice_command(zero, own.gpus)
    if own.peer != "none":
        for ranks in (1, own.gpus):
            yield f"PyTorch {own.peer}", ranks, peer_command(words(ranks) + ["--mode", own.peer], ranks)


def better(a, b):
    speeds = [number(result, "tokens_per_s") or 0 for result in (a, b)]
    return a if speeds[0] >= speeds[1] else b


def measure(own, folder, lines, clock):
    """{(batch, name, ranks): its best round}"""
    # The same graphs are compiled for one GPU and for several: what can be is taken from there.
    environment = {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "4")}
    best = {}
    for turn in range(own.rounds):
        for batch in map(int, own.batches.split(",")):
            for name, ranks, command in programs(own, batch):
                log = folder / f"{name.replace(' ', '-')}-{batch}-{ranks}-{turn}.log"
                job = (command, log, min(own.limit, clock.left()), environment)
                result = lines.add({"batch": batch, "who": name, "ranks": ranks, "round": turn},
                                   run_on_each(own.gpus, *job) if ranks == 1 else run(*job))
                key = (batch, name, ranks)
                best[key] = better(best[key], result) if key in best else result
    return best


def rows_of(own, best):
    for (batch, name, ranks), result in best.items():
        speed = number(result, "tokens_per_s")
        one = best.get((batch, name.split(" ZeRO-1")[0], 1), {})
        alone = number(one, "tokens_per_s")
        slowest = min(one.get("tokens_per_s_by_gpu", [alone])) if alone else None
        step = number(result, "step_s.median", scale=1e3)
        exposed = number(result, "phases_s.comm_exposed", scale=1e3)
        yield [f"{own.model} B{batch}", name, ranks, f"{speed:.0f}" if speed else "failed",
               f"{speed / ranks:.0f}" if speed else None,
               f"{speed / (ranks * alone):.3f}" if speed and alone and ranks > 1 else None,
               f"{speed / (ranks * slowest):.3f}" if speed and slowest and ranks > 1 else None,
               f"{step:.2f}" if step else None, f"{exposed:.2f}" if exposed is not None and ranks > 1 else None]


def main():
    own = parse_arguments()
    end_children_when_told_to()
    lines = Lines(own.out)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="two-gpus-"))
    print(f"results: {lines.file}, logs: {folder}", flush=True)
    best = measure(own, folder, lines, Clock(own.budget))
    print(table(["size", "who", "GPUs", "tokens/s", "a GPU", "efficiency", "of slowest", "step ms", "exposed ms"], rows_of(own, best)))
    failed = [key for key, result in best.items() if "failed" in result]
    for key in failed:
        print("FAILED", *key, best[key]["failed"], best[key].get("log", ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
