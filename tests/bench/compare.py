"""compare.sh: one training step of `sluice bench step` beside the PyTorch peer, on one GPU in one run; the ratio.

Every size is one line of the table: sluice, then the peer eager and compiled, one after the other, each alone on the GPU.
A size that fails is told, and the others go on.

--hold is for machines lent by the minute: first all compiled peers compile at once, --jobs of them side by side, and wait;
then the timed runs come, one at a time. Their first-step seconds are then those of several compilations at once."""

import argparse
import pathlib
import statistics
import tempfile
import time

import settings
from side_by_side import (ROOT, SIZES, Clock, Job, Lines, end_children_when_told_to, number, peer_command,
                          run, size_named, sluice_command, table)


def parse_arguments():
    parser = argparse.ArgumentParser(prog="compare.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Words that are no option of this go to sluice bench step alone.")
    parser.add_argument("sizes", nargs="*", help=f"{' '.join(SIZES)} (all), or MODEL:BATCH with a file of configs/models")
    parser.add_argument("--eager", default="all", metavar="SIZES", help="sizes for the eager peer: all, none, or a,b,...")
    parser.add_argument("--compile", default="all", metavar="SIZES", help="sizes for the compiled peer, likewise")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "tf32", "fp32"])
    parser.add_argument("--steps", type=int, default=20, help="steps that are measured, of each")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each program; medians are over them")
    parser.add_argument("--limit", type=float, default=300, metavar="S", help="seconds for one program, at most")
    parser.add_argument("--budget", type=float, default=7200, metavar="S", help="seconds for everything; the rest is left out")
    parser.add_argument("--hold", action="store_true", help="compile all peers first, side by side")
    parser.add_argument("--jobs", type=int, default=4, help="compilations side by side under --hold")
    parser.add_argument("--when", type=pathlib.Path, metavar="FILE", help="begin the timed runs once FILE exists")
    parser.add_argument("--out", default=str(ROOT / "build/bench/compare.jsonl"), metavar="FILE", help="every result, JSON lines")
    own, words = parser.parse_known_args()
    if own.hold and own.rounds > 1:
        parser.error("--hold takes one round: a peer that waits is measured once")
    own.extra = [word for word in own.sizes if word.startswith("--")] + words
    own.sizes = [size_named(text) for text in own.sizes] or list(SIZES.values())
    return own


def chosen(text, size):
    return text == "all" or size.name in text.split(",")


class HeldPeers:
    """Compiled peers after their first step, waiting for their turn."""

    def __init__(self, own, folder):
        self.own, self.folder = own, folder
        self.jobs = {}

    def compile(self, sizes, clock):
        todo = sorted(sizes, key=lambda size: -int(settings.read(size.words())["model.layers"]))  # the slowest first
        while (todo or any(self._compiling(size) for size in self.jobs)) and clock.left() > 60:
            while todo and sum(self._compiling(size) for size in self.jobs) < self.own.jobs:
                size = todo.pop(0)
                words = peer_words(self.own, size, "compile") + ["--wait-for", str(self._go(size))]
                self.jobs[size] = Job(peer_command(words), self.folder / f"peer-{size.model}-{size.batch}-compile.log",
                                      {"TORCHINDUCTOR_COMPILE_THREADS": "4"})
            time.sleep(0.2)

    def _go(self, size):
        return self.folder / f"go-{size.model}-{size.batch}"

    def ready(self, size):
        return self._go(size).with_name(self._go(size).name + ".ready").exists()

    def _compiling(self, size):
        return self.jobs[size].running() and not self.ready(size)

    def result(self, size, limit_s):
        if size not in self.jobs:
            return {"failed": "not begun: the time was up"}
        self._go(size).touch()
        return self.jobs[size].result(limit_s)

    def end(self):
        for job in self.jobs.values():
            job.end()


def peer_words(own, size, mode):
    return size.words(precision=own.precision) + ["--mode", mode, "--steps", str(own.steps), "--warmup", str(own.warmup),
                                                  "--label", size.name]


def measure(own, folder, lines, clock):
    """{(size, who): [result of each round]}"""
    held = HeldPeers(own, folder)
    results = {}
    try:
        if own.hold:
            held.compile([size for size in own.sizes if chosen(own.compile, size)], clock)
        while own.when and not own.when.exists() and clock.left() > 0:
            time.sleep(0.1)
        # What waits keeps parameters and moments on the GPU: the largest go first.
        order = sorted(own.sizes, key=parameters, reverse=True) if own.hold else own.sizes
        for turn in range(own.rounds):
            for size in order:
                for who in ("sluice", "eager", "compile"):
                    if who != "sluice" and not chosen(getattr(own, who), size):
                        continue
                    limit = min(own.limit, clock.left())
                    log = folder / f"{size.model}-{size.batch}-{who}-{turn}.log"
                    if who == "compile" and own.hold:
                        result = held.result(size, limit)
                    elif who == "sluice":
                        words = size.words(precision=own.precision) + ["--steps", str(own.steps), "--warmup", str(own.warmup)]
                        result = run(sluice_command(words + own.extra), log, limit)
                    else:
                        result = run(peer_command(peer_words(own, size, who)), log, limit)
                    results.setdefault((size, who), []).append(
                        lines.add({"size": size.name, "who": who, "round": turn}, result))
    finally:
        held.end()
    return results


def parameters(size):
    return settings.parameters(settings.read(size.words()), size.vocabulary)


def middle(results, key, scale=1.0):
    values = [number(result, key, scale=scale) for result in results]
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def shown(value, form):
    return None if value is None else format(value, form)


def print_table(own, results, peak):
    heads = ["size", "B", "who", "tokens/s", "ratio", "free-run", "step ms", "TFLOP/s", "MFU %", "HFU %", "GiB", "first step s"]
    rows = []
    for size in own.sizes:
        useful = settings.flops_per_token(settings.read(size.words()), size.vocabulary)
        ours = middle(results.get((size, "sluice"), []), "tokens_per_s")
        for who in ("sluice", "eager", "compile"):
            some = results.get((size, who))
            if not some:
                continue
            speed = middle(some, "tokens_per_s")
            free = middle(some, "tokens_per_s_free_running")
            memory = middle(some, "memory.peak_gib")
            flops = speed and speed * useful
            rows.append([size.name, size.batch, who, shown(speed, ".0f"),
                         shown(ours and speed and who != "sluice" and ours / speed or None, ".3f"),
                         shown(ours and free and ours / free, ".3f"),
                         shown(middle(some, "step_s.median", scale=1e3), ".2f"), shown(flops and flops / 1e12, ".1f"),
                         shown(flops and peak and 100 * flops / peak, ".1f"),
                         shown(middle(some, "hfu", scale=100), ".1f"), shown(memory, ".1f"),
                         shown(middle(some, "start_to_first_step_s"), ".1f")])
    print(table(heads, rows))
    print("ratio: tokens/s of sluice over those of this line; free-run: over this peer's without a synchronisation a step.")
    print("TFLOP/s and MFU count useful work (causal triangle)"
          + (f"; MFU of the GEMM peak measured in this run, {peak / 1e12:.0f} TFLOP/s." if peak else "; no measured peak."))
    for size in own.sizes:
        counts = {result["parameters"] for who in ("sluice", "eager", "compile") for result in results.get((size, who), [])
                  if "parameters" in result}
        if len(counts) > 1:
            print(f"NOT ALIKE {size.name}: models of {sorted(counts)} parameters")
    for (size, who), some in results.items():
        for result in some:
            if "failed" in result:
                print(f"FAILED {size.name} {who}: {result['failed']} ({result.get('log', 'no log')})")


def main():
    own = parse_arguments()
    end_children_when_told_to()
    lines = Lines(own.out)
    clock = Clock(own.budget)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
    print(f"results: {lines.file}, logs: {folder}", flush=True)
    results = measure(own, folder, lines, clock)
    measured = run(sluice_command([], part="peak"), folder / "peak.log", min(60, clock.left()))
    lines.add({"who": "peak"}, measured)
    print_table(own, results, number(measured, f"{own.precision}.tflops", scale=1e12))
    failed = any("failed" in result for some in results.values() for result in some)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
