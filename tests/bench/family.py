"""family.sh: gMLP, aMLP and Transformer, trained on the same tokens at two sizes with matched parameters, several seeds each.

CORPUS is what family_corpus.sh made (its folder `corpus`). Every run is configs/experiments/family.ini with one of
configs/models/family_FAMILY_SIZE.ini. With --tune the learning rates are tried first, for each family at its small size, one seed, in
a shorter run of the same schedule; the runs then take what was best, and a later call without --tune takes it too.

Finished runs are kept in --out and not run again; one that was interrupted goes on from its checkpoint. Beside --out lies the
table as Markdown. Runs side by side share the device: their tokens/s are not those of one alone, which --speed measures."""

import argparse
import configparser
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import statistics
import struct
import sys
import time

from side_by_side import ROOT, Clock, Gpus, Job, end_children_when_told_to, find_sluice, last_words, number, run, sluice_command

FAMILIES = {"gmlp": "gMLP", "amlp": "aMLP", "transformer": "Transformer"}
SIZES = ("small", "large")
COMMON = ROOT / "configs/experiments/family.ini"
# Student's t for a two-sided 95 % interval, by degrees of freedom from 1.
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
EDGE_STEPS = 3  # how often the sweep goes on beyond a rate at its edge


def parse_arguments():
    parser = argparse.ArgumentParser(prog="family.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Words that are no option of this go to every sluice train.")
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--dir", type=pathlib.Path, default=ROOT / "runs/family", help="where runs and logs go")
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE.json", help="what is known so far; default DIR/family.json")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="runs side by side")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="of this host, that the runs are dealt out to")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"], help="cpu: in fp32")
    parser.add_argument("--steps", type=int, metavar="N", help="instead of the config's")
    parser.add_argument("--tune", action="store_true", help="find each family's learning rate first")
    parser.add_argument("--tune-rates", default="1e-3,2e-3,4e-3", help="twice the rate before, or so: the sweep goes on at an edge")
    parser.add_argument("--tune-steps", type=int, default=320, metavar="N")
    parser.add_argument("--speed", action="store_true", help="after the runs, time the step of each model alone")
    parser.add_argument("--limit", type=float, default=36000, metavar="S", help="seconds for everything; the rest is left out")
    own, own.words = parser.parse_known_args()
    own.families, own.sizes = own.families.split(","), own.sizes.split(",")
    own.seeds = [int(seed) for seed in own.seeds.split(",")]
    own.rates = sorted(float(rate) for rate in own.tune_rates.split(","))
    own.out = own.out or own.dir / "family.json"
    unknown = [name for name in own.families if name not in FAMILIES] + [name for name in own.sizes if name not in SIZES]
    if unknown:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(FAMILIES)}; {', '.join(SIZES)}")
    if len(own.seeds) > len(T95) + 1:
        parser.error(f"--seeds: at most {len(T95) + 1}")
    return own


def config_of(family, size):
    return ROOT / f"configs/models/family_{family}_{size}.ini"


def config_value(file, section, key):
    parser = configparser.ConfigParser(inline_comment_prefixes="#")
    parser.read_string(file.read_text(encoding="utf-8"))
    return parser[section][key]


@dataclasses.dataclass(frozen=True)
class Run:
    family: str
    size: str
    seed: int
    rate: float
    steps: int


class Known:
    """What --out says of runs that are done, for this corpus and these settings alone."""

    def __init__(self, own):
        self.own = own
        self.file = own.out
        self.corpus = json.loads((own.corpus / "corpus.json").read_text())
        self.runs = json.loads(self.file.read_text())["runs"] if self.file.exists() else []

    def digest(self, family, size):
        """Of everything that a run of this model is a function of, but seed, rate and steps."""
        texts = [COMMON.read_text(), config_of(family, size).read_text(), *self.own.words, self.own.device,
                 self.corpus["fingerprint"]]
        texts = [re.sub(r"(?m)^lr = .*$", "", text) for text in texts]
        return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]

    def find(self, wanted):
        key = {**dataclasses.asdict(wanted), "settings": self.digest(wanted.family, wanted.size)}
        return next((run for run in self.runs if all(run.get(name) == value for name, value in key.items())), None)

    def keep(self, wanted, result):
        old = self.find(wanted)
        if old:
            self.runs.remove(old)
        self.runs.append({**dataclasses.asdict(wanted), "settings": self.digest(wanted.family, wanted.size), **result})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps({"corpus": self.corpus["fingerprint"], "runs": self.runs}, indent=1) + "\n")
        fresh.replace(self.file)

    def sweep(self, family):
        """{rate: loss at the end, or None} of what the sweep has tried."""
        wanted = {"sweep": True, "family": family, "steps": self.own.tune_steps, "settings": self.digest(family, "small")}
        return {run["rate"]: run["loss"] for run in self.runs if all(run.get(key) == value for key, value in wanted.items())}


def best_of(losses):
    """The key with the least loss; None stands for a run that came to nothing."""
    finite = {key: loss for key, loss in losses.items() if loss is not None}
    return min(finite, key=finite.get) if finite else None


def next_rate(losses, rates):
    """Where the sweep goes on: half or twice the best rate where that is at an edge of what was tried; else None."""
    best = best_of(losses)
    if best is None:
        return min(losses) / 2
    if len(losses) >= len(rates) + EDGE_STEPS:
        return None
    if best == max(losses):
        return best * 2
    return best / 2 if best == min(losses) else None


def directory_of(own, known, wanted):
    name = (f"{wanted.family}-{wanted.size}-lr{wanted.rate:g}-steps{wanted.steps}-seed{wanted.seed}"
            f"-{known.digest(wanted.family, wanted.size)}")
    return own.dir / name


def train_command(own, known, wanted):
    command = [find_sluice(), "train", "--config", str(COMMON), "--config", str(config_of(wanted.family, wanted.size)),
               f"--run.seed={wanted.seed}", f"--run.dir={directory_of(own, known, wanted)}", f"--data.corpus={own.corpus}",
               f"--train.steps={wanted.steps}", f"--optim.lr={wanted.rate!r}",
               f"--optim.warmup_steps={max(1, wanted.steps // 10)}", f"--train.device={own.device}"]
    # Side by side, the times of algorithms say nothing of them.
    command += ["--train.tune=off"] if own.jobs > 1 and own.device != "cpu" else []
    command += ["--train.precision=fp32"] if own.device == "cpu" else []
    return command + own.words


def count_parameters(directory):
    """(all that are kept, those that the output depends on: no W above its diagonal), from the newest checkpoint."""
    with open(directory / "checkpoints/latest/model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return parameters_of({name: tensor["shape"] for name, tensor in header.items() if "_moment." not in name})


def parameters_of(shapes):
    stored = unread = 0
    for name, shape in shapes.items():
        size = 1
        for extent in shape:
            size *= extent
        stored += size
        if name.endswith("sgu.weight"):
            unread += shape[-1] * (shape[-1] - 1) // 2
    return stored, stored - unread


def read_run(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    valid = [(line["step"], line["loss"]) for line in lines if line["kind"] == "valid"]
    train = [line for line in lines if line["kind"] == "train"]
    stored, read = count_parameters(directory)
    return {"loss": valid[-1][1], "valid": valid, "tokens": train[-1]["tokens"], "parameters": stored, "parameters_read": read,
            "tokens_per_s": statistics.median(line["tokens_per_s"] for line in train[len(train) // 10:])}


class Runner:
    """Runs side by side, as many as --jobs allows, within the time."""

    def __init__(self, own, known, clock):
        self.own, self.known, self.clock = own, known, clock
        self.began = time.monotonic()
        self.faults = {}
        self.gpus = Gpus(own.gpus)
        # A sweep of several families at once still shares the machine evenly.
        self.environment = {"SLUICE_PROGRESS": "lines"}
        if "OMP_NUM_THREADS" not in os.environ:
            self.environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // own.jobs))

    def all(self, wanted, sweep=False):
        todo, running = [one for one in wanted if not self.known.find(one)], {}
        try:
            while (todo or running) and not (self.clock.left() <= 0 and not running):
                while todo and len(running) < self.own.jobs and self.clock.left() > 0:
                    one = todo.pop(0)
                    log = f"{directory_of(self.own, self.known, one)}.log"
                    running[one] = Job(train_command(self.own, self.known, one), log,
                                       {**self.environment, **self.gpus.take(one)})
                time.sleep(0.1)
                for one, job in list(running.items()):
                    late = self.clock.left() <= 0
                    if job.running() and not late:
                        continue
                    if job.running():
                        job.end()
                        self.tell(one, "not done in time")
                    else:
                        self.finish(one, job, sweep)
                    self.gpus.give_back(one)
                    del running[one]
        finally:
            for job in running.values():
                job.end()
        for one in todo:
            self.tell(one, "not begun in time")

    def finish(self, one, job, sweep):
        directory = directory_of(self.own, self.known, one)
        if job.process.returncode == 0:
            result = {**read_run(directory), "seconds": round(time.monotonic() - job.began, 1), "jobs": self.own.jobs}
            self.known.keep(one, {**result, "sweep": True} if sweep else result)
            self.tell(one, None, f"validation loss {result['loss']:.4f}, {result['seconds']:.0f} s")
            return
        told = last_words(job.log.read_text(errors="replace").splitlines()[1:])
        if sweep and "skipped (train.max_skipped" in told:
            self.known.keep(one, {"loss": None, "sweep": True})  # diverged: an answer too
            self.tell(one, None, "diverged")
        else:
            self.tell(one, f"exit code {job.process.returncode}: {told} ({job.log})")

    def tell(self, one, fault, text=""):
        if fault:
            self.faults[one] = fault
        print(f"[{time.monotonic() - self.began:5.0f} s] {one.family} {one.size}, lr {one.rate:g}, {one.steps} steps, seed "
              f"{one.seed}: {fault or text}", flush=True)


def tune(own, known, runner):
    """The sweep; afterwards known.sweep() has what it found."""
    def one(family, rate):
        return Run(family, "small", own.seeds[0], rate, own.tune_steps)

    runner.all([one(family, rate) for family in own.families for rate in own.rates], sweep=True)
    for _ in range(EDGE_STEPS):
        more = [(family, next_rate(known.sweep(family), own.rates)) for family in own.families if known.sweep(family)]
        more = [one(family, rate) for family, rate in more if rate]
        if not more or runner.faults:
            break
        runner.all(more, sweep=True)
    for family in own.families:
        tried = sorted(known.sweep(family).items())
        text = ", ".join(f"{rate:g}: {'diverged' if loss is None else f'{loss:.4f}'}" for rate, loss in tried)
        print(f"learning rates of {FAMILIES[family]}, validation loss after {own.tune_steps} steps: {text}", flush=True)


def all_runs(own, known):
    """Seeds outermost, so that a limit leaves whole rounds; the slow ones of a round first."""
    steps = own.steps or int(config_value(COMMON, "train", "steps"))
    for seed in own.seeds:
        for size in reversed(own.sizes):
            for family in own.families:
                rate = best_of(known.sweep(family)) or float(config_value(config_of(family, size), "optim", "lr"))
                yield Run(family, size, seed, rate, steps)


def measure_speed(own, known, runner, clock):
    """tokens/s of each model alone, kept with its first seed's run."""
    words = [word for word in own.words if word.startswith(("--train.", "--model."))]
    for one in all_runs(own, known):
        found = known.find(one)
        if not found or one.seed != own.seeds[0] or found.get("tokens_per_s_alone"):
            continue
        config = ["--config", str(COMMON), "--config", str(config_of(one.family, one.size)), f"--train.device={own.device}",
                  "--vocabulary", str(known.corpus["tokenizer"]["vocabulary_size"]), "--steps", "20", "--warmup", "5"]
        config += ["--train.precision=fp32"] if own.device == "cpu" else []
        result = run(sluice_command(config + words), own.dir / f"speed-{one.family}-{one.size}.log", min(120, clock.left()))
        speed = number(result, "tokens_per_s")
        if speed:
            known.keep(one, {**{key: value for key, value in found.items() if key not in dataclasses.asdict(one)},
                             "tokens_per_s_alone": speed})
        runner.tell(one, None if speed else f"speed: {result.get('failed')}", f"alone {speed or 0:.0f} tokens/s")


def interval(values):
    """(mean, half of the 95 % interval by Student's t); half is None of a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, T95[len(values) - 2] * statistics.stdev(values) / len(values) ** 0.5


def with_interval(values, digits):
    mean, half = interval(values)
    return f"{mean:.{digits}f}" if half is None else f"{mean:.{digits}f} ± {half:.{digits}f}"


def markdown(rows, bits_of_nat):
    """A line for each model of [(family, size, its runs)], smaller sizes first; bits_of_nat: bits a byte for a nat a token."""
    lines = ["| model | parameters (read) | tokens | learning rate | validation loss, nats a token | bits a byte | seeds | tokens/s |",
             "|---|---|---|---|---|---|---|---|"]
    for family, size, runs in rows:
        losses = [run["loss"] for run in runs]
        first = runs[0]
        alone = next((run["tokens_per_s_alone"] for run in runs if run.get("tokens_per_s_alone")), None)
        speed = (f"{alone / 1e3:.0f}k" if alone else
                 f"{statistics.median(run['tokens_per_s'] for run in runs) / 1e3:.0f}k, {first['jobs']} side by side")
        lines.append(f"| {FAMILIES[family]}, {size} | {first['parameters'] / 1e6:.2f} M ({first['parameters_read'] / 1e6:.2f}) "
                     f"| {first['tokens'] / 1e6:.1f} M | {first['rate']:g} | {with_interval(losses, 4)} "
                     f"| {with_interval([loss * bits_of_nat for loss in losses], 4)} "
                     f"| {', '.join(f'{loss:.4f}' for loss in losses)} | {speed} |")
    return "\n".join(lines) + "\n"


def bits_of_nat(corpus):
    """Bits a byte for one nat a token of the valid split."""
    valid = corpus["splits"]["valid"]
    return (valid["tokens"] - 1) / valid["text_bytes"] / 0.6931471805599453


def report(own, known):
    rows = []
    wanted = list(all_runs(own, known))
    for size in own.sizes:
        for family in own.families:
            runs = [known.find(one) for one in wanted if (one.family, one.size) == (family, size)]
            if any(runs):
                rows.append((family, size, [one for one in runs if one]))
    text = markdown(rows, bits_of_nat(known.corpus))
    own.out.with_suffix(".md").write_text(text)
    print("\n" + text + f"\n95 % intervals by Student's t over seeds; {own.out}, {own.out.with_suffix('.md')}")


def main():
    own = parse_arguments()
    end_children_when_told_to()
    own.dir.mkdir(parents=True, exist_ok=True)
    clock = Clock(own.limit)
    known = Known(own)
    runner = Runner(own, known, clock)
    if own.tune:
        tune(own, known, runner)
    runner.all(list(all_runs(own, known)))
    if own.speed:
        measure_speed(own, known, runner, clock)
    report(own, known)
    for one, fault in runner.faults.items():
        print(f"FAILED {one.family} {one.size}, lr {one.rate:g}, seed {one.seed}: {fault}")
    return 1 if runner.faults else 0


if __name__ == "__main__":
    sys.exit(main())
