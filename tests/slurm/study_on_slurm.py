#!/usr/bin/env python3
"""A loss study as arrays on a real Slurm: trunks first, their branches after them; one trunk is requeued, one killed.

  study_on_slurm.py --sluice PROGRAM

Standard library only; 77, which skips the test, where slurm_jobs.py does.
"""
import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import slurm_jobs
from slurm_jobs import GLOBAL_BATCH, SITE, Cluster, Work, until

TRUNK, BRANCH, DECAYS = 500, 250, 0.2  # steps, and the share of them that decays

STUDY = """[study]
name = arrays
kind = loss
dir = {dir}
jobs = 2
[settings]
data.corpus = {corpus}
train.global_batch = 32
train.micro_batch = 8
train.threads = 1
train.device = cpu
train.ledger = ledger
model.layers = 2
model.d_ffn = 256
model.seq_len = 64
optim.schedule = wsd
optim.decay_fraction = 0.2
optim.warmup_steps = 4
eval.every = 0
checkpoint.every = 20
checkpoint.keep = 1
[size.s]
model.d_model = 48
[size.m]
model.d_model = 64
[budgets]
tokens = {branch}, {trunk}
branches = true
"""


class Study:
    def __init__(self, work, name):
        self.work, self.out = work, work.directory / name
        self.file = work.directory / f"{name}.ini"
        step = 32 * 64
        self.file.write_text(STUDY.format(dir=self.out, corpus=work.place.corpus, branch=BRANCH * step, trunk=TRUNK * step))

    def call(self, *words):
        return self.work.place.check([self.work.sluice, "study", str(self.file), *map(str, words)])

    def runs(self):
        return json.loads((self.out / "study.json").read_text())["runs"]

    def losses(self):
        with open(self.out / "points.csv", newline="") as file:
            return {row["run"]: row["loss"] for row in csv.DictReader(file)}

    def steps(self, run):
        metrics = self.out / "runs" / run / "metrics.jsonl"
        return metrics.read_text().count('"train"') if metrics.exists() else 0

    def logs(self):
        return "\n".join(f"{file}:\n{file.read_text()}" for file in sorted(self.out.rglob("*.log")))

    def check_ledgers(self):
        """Every step of every run once: a branch's from the step after the one that it left its trunk at."""
        for run in self.runs():
            first, last = (0, TRUNK) if run["role"] == "trunk" else (round((1 - DECAYS) * BRANCH), BRANCH)
            lines = [json.loads(line) for line in (self.out / "runs" / run["id"] / "ledger").read_text().splitlines()]
            expected = [{"step": i + 1, "first": i * GLOBAL_BATCH, "count": GLOBAL_BATCH} for i in range(first, last)]
            assert lines == expected, f"{run['id']}: {len(lines)} lines, steps {first + 1} to {last} expected"


def wait_for_all(study):
    queue = ["squeue", "-h"]
    until("all jobs end", lambda: not subprocess.run(queue, stdout=subprocess.PIPE, text=True, check=True).stdout, 400)


def check(work):
    site = work.directory / "site.ini"
    site.write_text(SITE.format(requeue="true", ranks_per_node=1))
    study = Study(work, "arrays")
    study.call("submit", "--cluster", site)
    trunks = [run["id"] for run in study.runs() if run["role"] == "trunk"]
    assert len(trunks) == 2 and len(study.runs()) == 4, study.runs()
    for run in trunks:
        until(f"{run} has done 25 steps", lambda: study.steps(run) >= 25)
    jobs = subprocess.run(["squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert len(jobs) == 2, jobs
    first = next(job for job in jobs if job.endswith("_0"))
    subprocess.run(["scontrol", "requeue", first], check=True)
    until("the other trunk is killed", lambda: subprocess.run(
        ["pkill", "-KILL", "-f", f"sluice train --config {study.out}/runs/{trunks[1]}/"]).returncode == 0)
    wait_for_all(study)
    state = {run["id"]: run["status"] for run in study.runs()}
    assert state[trunks[0]] == "done" and state[trunks[1]] == "failed", f"{state}\n{study.logs()}"
    study.call("submit", "--cluster", site, "--retry")
    wait_for_all(study)
    study.call("collect")
    assert {run["status"] for run in study.runs()} == {"done"}, f"{study.runs()}\n{study.logs()}"
    study.check_ledgers()
    alone = Study(work, "alone")
    alone.call()
    assert study.losses() == alone.losses() and len(alone.losses()) == 4, f"{study.losses()} on Slurm, {alone.losses()} alone"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sluice", required=True)
    options = parser.parse_args()
    slurm_jobs.skip_where_there_is_none()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    with tempfile.TemporaryDirectory(prefix="sluice-study-") as directory:
        os.chmod(directory, 0o755)  # Slurm's user munge must get in
        work = Work(options.sluice, directory)
        with Cluster(Path(directory) / "cluster"):
            check(work)
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
