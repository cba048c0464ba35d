"""labml.sh, nanogpt.sh: a published experiment on tiny Shakespeare, several seeds, the validation loss of each at its best step.

Prepares the corpus from TEXT (characters, the last tenth for validation) and trains the experiment's settings once for each seed:
labml's autoregressive gMLP, beside six runs of it in PyTorch, whose best checkpoint then writes; or nanoGPT's shakespeare-char
Transformer. Runs go on where they stopped when this is called again with the same --dir."""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from side_by_side import ROOT, Clock, Gpus, Job, end_children_when_told_to, find_sluice, table


@dataclasses.dataclass(frozen=True)
class Experiment:
    settings: pathlib.Path
    global_batch: int
    median_bound: float  # of the best validation losses, nats a character
    each_bound: float | None
    reference: str
    words: tuple[str, ...]  # of checkpoints


EXPERIMENTS = {
    "labml": Experiment(ROOT / "configs/experiments/labml_shakespeare.ini", 32, 1.540, 1.550,
                        "PyTorch, six runs: 1.514, 1.521, 1.526, 1.528, 1.53, 1.533",
                        # 16 checkpoints of every 100 steps: those from step 1500 on, among them the best.
                        ("--checkpoint.keep=16",)),
    "nanogpt": Experiment(ROOT / "configs/experiments/nanogpt_shakespeare_char.ini", 64, 1.490, None,
                          "nanoGPT publishes 1.4697, the mean of 200 random batches",
                          ("--checkpoint.every=1000", "--checkpoint.keep=1")),
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="Words that are no option of this go to sluice train.")
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--ranks", type=int, default=1, help="of each run; the global batch stays")
    parser.add_argument("--at-once", type=int, metavar="N", help="runs side by side; default all with one rank, else one")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="of this host, that runs of one rank are dealt out to")
    parser.add_argument("--dir", type=pathlib.Path, help="where corpus and runs go; default runs/EXPERIMENT")
    parser.add_argument("--limit", type=float, default=3600, metavar="S", help="seconds for everything")
    own, own.words = parser.parse_known_args()
    own.name = own.experiment
    own.dir = own.dir or ROOT / "runs" / own.name
    own.experiment = EXPERIMENTS[own.experiment]
    own.seeds = [int(seed) for seed in own.seeds.split(",")]
    own.at_once = own.at_once or (len(own.seeds) if own.ranks == 1 else 1)
    return own


def prepare(own):
    """The corpus of the text, made once."""
    corpus = own.dir / "corpus"
    if not (corpus / "corpus.json").exists():
        own.dir.mkdir(parents=True, exist_ok=True)
        subprocess.run([find_sluice(), "prepare", "--input", own.text, "--tokenizer", "chars", "--valid-fraction", "0.1",
                        "--out", corpus], check=True, stdout=subprocess.DEVNULL)
    return corpus


def train_command(own, corpus, seed):
    run = ([] if own.ranks == 1 else [str(ROOT / "launch/mpirun.sh"), "-n", str(own.ranks), "--"]) + [find_sluice(), "train"]
    micro_batch = -(-own.experiment.global_batch // own.ranks)
    given = {word.partition("=")[0] for word in own.words}
    settings = [f"--train.micro_batch={micro_batch}", *own.experiment.words]
    return run + ["--config", str(own.experiment.settings), f"--run.seed={seed}", f"--run.dir={run_directory(own, seed)}",
                  f"--data.corpus={corpus}", *(word for word in settings if word.partition("=")[0] not in given), *own.words]


def run_directory(own, seed):
    return own.dir / f"seed-{seed}"


def train_all(own, corpus, clock):
    """Seconds of each seed, and what went wrong."""
    environment = {"SLUICE_PROGRESS": "lines"}
    if "OMP_NUM_THREADS" not in os.environ:
        environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // (own.at_once * own.ranks)))
    gpus = Gpus(own.gpus if own.ranks == 1 else 1)
    todo, running, seconds, faults = list(own.seeds), {}, {}, {}
    try:
        while todo or running:
            while todo and len(running) < own.at_once:
                seed = todo.pop(0)
                running[seed] = Job(train_command(own, corpus, seed), own.dir / f"seed-{seed}.log",
                                    {**environment, **gpus.take(seed)})
            time.sleep(0.2)
            for seed, job in list(running.items()):
                if job.running() and clock.left() > 0:
                    continue
                if job.running():
                    job.end()
                    faults[seed] = "not done in time"
                elif job.process.returncode != 0:
                    faults[seed] = f"exit code {job.process.returncode}, {job.log}:\n{job.log.read_text(errors='replace')[-600:]}"
                gpus.give_back(seed)
                seconds[seed] = time.monotonic() - job.began
                del running[seed]
                print(f"seed {seed}: {seconds[seed]:.0f} s {faults.get(seed, '')}", flush=True)
            if clock.left() <= 0:
                todo.clear()
    finally:
        for job in running.values():
            job.end()
    return seconds, faults


def curves(directory):
    """{"train": [(step, loss)], "valid": [...]}, and tokens/s of the middle step."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines() if line.endswith("}")]
    found = {kind: [(line["step"], line["loss"]) for line in lines if line["kind"] == kind] for kind in ("train", "valid")}
    speeds = [line["tokens_per_s"] for line in lines if line["kind"] == "train"]
    return found, statistics.median(speeds) if speeds else None


def sample(own, seed, step):
    """What the checkpoint of that step goes on with; the second one greedy, 25 characters, as labml's does."""
    checkpoint = run_directory(own, seed) / f"checkpoints/step-{step:06}"
    if not checkpoint.exists():
        return f"(checkpoint of step {step} is no longer there)"
    texts = []
    for words in (["--tokens", "400", "--temperature", "0.8", "--seed", "1"], ["--tokens", "25", "--greedy"]):
        done = subprocess.run([find_sluice(), "generate", "--checkpoint", checkpoint, "--prompt", "It is ", *words],
                              capture_output=True, text=True, timeout=120, check=False)
        texts.append(done.stdout if done.returncode == 0 else f"(generate failed: {done.stderr.strip()})")
    return "\n--\n".join(texts)


def report(own, seconds, faults):
    rows, best, kept = [], {}, []
    for seed in own.seeds:
        directory = run_directory(own, seed)
        if not (directory / "metrics.jsonl").exists():
            rows.append([seed, "no metrics"])
            continue
        found, speed = curves(directory)
        if not found["valid"]:
            rows.append([seed, "no evaluation"])
            continue
        step, loss = min(found["valid"], key=lambda pair: pair[1])
        best[seed] = (loss, step)
        kept.append({"seed": seed, "ranks": own.ranks, "best_valid_loss": loss, "best_step": step, "valid": found["valid"],
                     "train": found["train"][9::10], "tokens_per_s": speed, "seconds": seconds.get(seed)})
        rows.append([seed, f"{loss:.4f}", step, found["valid"][-1][0], f"{found['valid'][-1][1]:.4f}",
                     f"{speed:.0f}", f"{seconds.get(seed, 0):.0f}"])
    (own.dir / f"{own.name}.json").write_text(json.dumps(kept))
    width = 7
    print(table(["seed", "best valid loss", "at step", "last step", "valid loss there", "tokens/s", "s"],
                [row + [None] * (width - len(row)) for row in rows]))
    if not best:
        return 1
    by_step = {}
    for one in kept:
        for step, loss in one["valid"]:
            by_step.setdefault(step, []).append(loss)
    print("\nvalidation loss, median of seeds: "
          + ", ".join(f"{step}: {statistics.median(some):.3f}" for step, some in sorted(by_step.items())))
    losses = [loss for loss, _ in best.values()]
    middle = statistics.median(losses)
    bounds = own.experiment
    within = middle <= bounds.median_bound and (bounds.each_bound is None or max(losses) <= bounds.each_bound)
    each = f" (bound {bounds.each_bound:.3f})" if bounds.each_bound else ""
    print(f"median {middle:.4f} (bound {bounds.median_bound:.3f}), worst {max(losses):.4f}{each}: "
          f"{'within' if within else 'NOT within'} the bounds; {bounds.reference}")
    (loss, step), seed = min((found, seed) for seed, found in best.items())
    text = sample(own, seed, step)
    (own.dir / "sample.txt").write_text(text)
    print(f"\nseed {seed}, step {step}, validation loss {loss:.4f}, writes:\n{text}")
    return 1 if faults or len(best) < len(own.seeds) else 0


def main():
    own = parse_arguments()
    end_children_when_told_to()
    clock = Clock(own.limit)
    corpus = prepare(own)
    seconds, faults = train_all(own, corpus, clock)
    return report(own, seconds, faults)


if __name__ == "__main__":
    sys.exit(main())
