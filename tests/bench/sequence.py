"""sequence.sh: ranks that share sequences, mode by mode and length by length, against one rank with the same work.

Rows, length by length as given: one rank (GPUs differ by some per cent: a copy of the program on each of them at once, that have
nothing to do with one another, and their mean); each mode on all ranks with the same sequences (speed-up: strong scaling); at the longest the
first mode once more with as many tokens a rank as the one rank had (weak scaling). Every run on several ranks is followed by one in which each
exchange between ranks is a local copy: `efficiency` is that one's time over the real one's, `exposed` the difference over the step.
On GPUs also: all-to-all with ZeRO-1 at the longest of --lengths, and two layers of --longest positions, which one GPU cannot hold.
The mode that parallel.sp_mode = auto takes, by the first mode's predictions, is marked *. Peak memory is the allocator's, of the rank that needs most."""

import argparse
import pathlib

from side_by_side import (ROOT, VOCABULARY, Clock, Lines, end_children_when_told_to, number, run, run_on_each, sluice_command, table)

MODES = ("alltoall", "rowshard", "ring")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="sequence.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Words that are no option of this go to sluice bench step.")
    parser.add_argument("--cpu", action="store_true", help="CPU ranks and small models: the table's shape, not speed")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--lengths", help="positions; default 16384 down to 512, on the CPU 64 to 256")
    parser.add_argument("--modes", default="rowshard,ring,alltoall")
    parser.add_argument("--tokens", type=int, help="of a step; default 32768, on the CPU 1024; at least 2 sequences")
    parser.add_argument("--longest", type=int, default=65536, help="positions of the last part; 0: not run")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--limit", type=float, default=180, metavar="S", help="seconds for one program, at most")
    parser.add_argument("--budget", type=float, default=3600, metavar="S", help="seconds for everything; the rest is left out")
    parser.add_argument("--out", default=str(ROOT / "build/bench/sequence.jsonl"), metavar="FILE")
    own, own.words = parser.parse_known_args()
    own.lengths = [int(n) for n in (own.lengths or ("64,128,256" if own.cpu else "16384,8192,4096,2048,1024,512")).split(",")]
    own.modes = own.modes.split(",")
    own.tokens = own.tokens or (1024 if own.cpu else 32768)
    if own.ranks < 2 or not set(own.modes) <= set(MODES):
        raise SystemExit(f"sequence.sh: at least 2 ranks, modes of {', '.join(MODES)}")
    return own


def model_words(own, positions, layers=4):
    """bench step's settings of a model of so many positions."""
    if own.cpu:
        size, rest = (2, 64, 256), ["--train.device=cpu", "--train.precision=fp32", "--vocabulary", "256"]
    else:
        size, rest = (layers, 512, 3072), ["--train.device=cuda", "--train.precision=bf16", "--vocabulary", str(VOCABULARY)]
    names = ("layers", "d_model", "d_ffn")
    return [*(f"--model.{name}={value}" for name, value in zip(names, size)), f"--model.seq_len={positions}", *rest]


def batch_words(sequences):
    return [f"--train.micro_batch={sequences}", f"--train.global_batch={sequences}"]


class Measurement:
    """Runs of bench step, each a JSON line; `rows` has them by (length, what)."""

    def __init__(self, own):
        self.own, self.clock, self.lines, self.rows = own, Clock(own.budget), Lines(own.out), {}
        self.folder = pathlib.Path(own.out).with_suffix(".logs")

    def step(self, positions, what, ranks, words, count=None):
        own = self.own
        count = count or ["--steps", str(own.steps), "--warmup", str(own.warmup)]
        command = sluice_command([*words, *count, *own.words], ranks)
        log = self.folder / f"n{positions}-{what.replace(' ', '-')}.log"
        limit = min(own.limit, self.clock.left())
        result = run_on_each(own.ranks, command, log, limit) if ranks == 1 and not own.cpu else run(command, log, limit)
        self.rows[positions, what] = self.lines.add({"positions": positions, "what": what, "ranks": ranks}, result)

    def sequences(self, positions):
        return max(2, self.own.tokens // positions)

    def length(self, positions):
        words = model_words(self.own, positions) + batch_words(self.sequences(positions))
        self.step(positions, "one rank", 1, words)
        for mode in self.own.modes:
            self.step(positions, mode, self.own.ranks, self.shared(mode) + words)

    def weak(self, positions):
        own = self.own
        self.step(positions, f"{own.modes[0]} weak", own.ranks, self.shared(own.modes[0]) + model_words(own, positions) +
                  batch_words(own.ranks * self.sequences(positions)))

    def shared(self, mode):
        return [f"--parallel.sp={self.own.ranks}", f"--parallel.sp_mode={mode}"]

    def beyond(self):
        """What one GPU cannot hold, and all-to-all's memory with sliced moments."""
        own = self.own
        longest = max(own.lengths)
        if "alltoall" in own.modes:
            self.step(longest, "alltoall ZeRO-1", own.ranks, self.shared("alltoall") + model_words(own, longest) +
                      batch_words(self.sequences(longest)) + ["--parallel.zero=1", "--real-exchange"])
        by_rows = [mode for mode in own.modes if mode != "alltoall"]
        if own.longest and by_rows:
            few = ["--steps", "5", "--warmup", "2", "--real-exchange"]
            self.step(own.longest, f"{by_rows[0]} 2 layers", own.ranks,
                      self.shared(by_rows[0]) + model_words(own, own.longest, layers=2) + batch_words(1), few)


def text(value, form):
    return None if value is None else form.format(value)


def ratio(a, b):
    return a / b if a and b else None


def chosen(rows, positions, mode):
    """What auto takes where the exchanges were measured for `mode`."""
    predicted = rows.get((positions, mode), {}).get("exchange", {}).get("predicted", {})
    return min(predicted, key=lambda name: predicted[name]["total_s"], default=None)


def table_row(rows, positions, what, own):
    """Cells of one row, against the one rank's of its length."""
    result, alone = rows[positions, what], rows.get((positions, "one rank"), {})
    weak = own.ranks if what.endswith("weak") else 1
    speed_up = ratio(number(result, "tokens_per_s"), number(alone, "tokens_per_s"))
    memory = number(result, "memory.peak_gib")
    mark = " *" if what == chosen(rows, positions, own.modes[0]) else ""
    return [f"{positions} {what}{mark}", text(number(result, "step_s.median", 1e3), "{:.2f}"),
            text(number(result, "tokens_per_s", 1e-3), "{:.1f}k"), text(speed_up, "{:.3f}"),
            text(ratio(speed_up, own.ranks) if weak > 1 else None, "{:.3f}"), text(number(result, "exchange.efficiency"), "{:.3f}"),
            text(number(result, "exchange.exposed_share", 100), "{:.1f} %"), text(memory, "{:.2f}"),
            text(ratio(memory, number(alone, "memory.peak_gib")), "{:.3f}")]


def print_table(measurement):
    heads = ["positions", "ms", "tokens/s", "speed-up", "weak", "efficiency", "exposed", "peak GiB", "of one rank's"]
    rows = measurement.rows
    print(table(heads, [table_row(rows, n, what, measurement.own) for n, what in sorted(rows, key=lambda key: key[0])]))
    for (positions, what), result in rows.items():
        if "failed" in result:
            print(f"{positions} {what}: {result['failed']}")


def main():
    end_children_when_told_to()
    own = parse_arguments()
    measurement = Measurement(own)
    try:
        for positions in own.lengths:
            measurement.length(positions)
            if positions == max(own.lengths):
                measurement.weak(positions)
                if not own.cpu:
                    measurement.beyond()
    finally:
        print_table(measurement)
    link = ["--sizes", "64K", "1M", "16M", "64M"] + (["--device", "cpu"] if own.cpu else [])
    command = sluice_command(link, own.ranks, part="exchange")
    result = run(command, measurement.folder / "exchange.log", min(own.limit, measurement.clock.left()))
    for row in measurement.lines.add({"what": "exchange"}, result).get("rows", []):
        print(f"{row['collective']:16} {row['bytes']:>10} bytes {1e6 * row['median_s']:10.1f} us  busbw {row['busbw_gb_s']:.2f} GB/s")


if __name__ == "__main__":
    main()
