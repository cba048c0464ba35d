#!/usr/bin/env python3
"""study_jobs.py SLUICE: `sluice study` as a user calls it, with models that train in a second on one core.

Standard library only.
"""
import csv
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests/fixtures/v1/corpus-chars"
SLUICE = str(Path(sys.argv.pop(1)).resolve())
os.environ["PATH"] += f":{ROOT / 'launch'}"  # where the program was built outside of the sources

LOSS = """[study]
name = tiny
kind = loss
dir = {dir}
jobs = 2
[settings]
config = {root}/configs/experiments/tiny.ini
data.corpus = {corpus}
model.seq_len = 32
model.d_model = 16
model.d_ffn = 32
optim.schedule = wsd
optim.warmup_steps = 2
optim.lr = 1e-2
eval.every = 0
checkpoint.every = 5
train.ledger = ledger
[size.s]
model.layers = 1
[size.m]
model.layers = 2
[budgets]
tokens = 2560, 5120, 10240
branches = true
"""


class Study(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = Path(scratch.name)
        self.out = self.directory / "out"
        self.file = self.directory / "study.ini"

    def write(self, text, **more):
        self.file.write_text(text.format(dir=self.out, root=ROOT, corpus=CORPUS, **more))

    def command(self, *words):
        return [SLUICE, "study", str(self.file), *map(str, words)]

    def study(self, *words, code=0):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=200, cwd=ROOT)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout if code != 2 else done.stderr

    def runs(self):
        return json.loads((self.out / "study.json").read_text())["runs"]

    def table(self, name):
        with open(self.out / name, newline="") as file:
            return list(csv.DictReader(file))

    def losses(self):
        return {row["run"]: row["loss"] for row in self.table("points.csv")}

    def test_a_study_is_run_collected_and_not_run_again(self):
        self.write(LOSS)
        dry = self.study("--dry-run")
        self.assertEqual(dry.count("waiting "), 6, dry)
        self.assertFalse((self.out / "runs").exists() and any((self.out / "runs").iterdir()), "a dry run starts nothing")
        self.assertEqual(self.study().count("] started "), 6)
        self.assertEqual([run["status"] for run in self.runs()], ["done"] * 6)
        self.assertEqual([run["role"] for run in self.runs()], ["branch", "branch", "trunk"] * 2)
        points = self.table("points.csv")
        self.assertEqual(len(points), 6)
        for point, run in zip(points, self.runs(), strict=True):
            evaluation = json.loads((Path(run["directory"]) / "eval.json").read_text())
            self.assertEqual(float(point["loss"]), evaluation["loss"])
            self.assertEqual(evaluation["step"], run["steps"])
            self.assertEqual(int(point["tokens"]), run["steps"] * 8 * 32)
            self.assertEqual(point["trunk"], run["parent"] or run["id"])
        for run in self.runs():  # a branch takes its trunk's steps for its own
            steps = [json.loads(line)["step"] for line in (Path(run["directory"]) / "ledger").read_text().splitlines()]
            first = 1 if run["role"] == "trunk" else run["steps"] * 4 // 5 + 1
            self.assertEqual(steps, list(range(first, run["steps"] + 1)), run["name"])
        before = self.losses()
        again = self.study()
        self.assertNotIn("started", again)
        self.assertEqual(self.losses(), before)

    def test_a_branch_is_as_good_as_a_run_from_the_start(self):
        self.write(LOSS)
        self.study()
        branched = self.losses()
        self.out = self.directory / "straight"
        self.write(LOSS.replace("branches = true", "branches = false"))
        self.study()
        self.assertEqual(self.losses(), branched, "the same ids, and the same losses")

    def test_jobs_side_by_side_have_gpus_of_their_own(self):
        self.write(LOSS.replace("jobs = 2", "jobs = 2\ngpus = 2").replace("branches = true", "branches = false"))
        visible = dict(os.environ, CUDA_VISIBLE_DEVICES="4,7")
        with subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, env=visible, cwd=ROOT) as study:
            seen = []
            while study.poll() is None:
                seen.append(self.gpus_of_jobs(study.pid))
                time.sleep(0.005)
        self.assertEqual(study.returncode, 0)
        self.assertEqual({gpu for gpus in seen for gpu in gpus}, {"4", "7"})
        self.assertTrue(any(len(gpus) == 2 for gpus in seen), "jobs ran side by side")
        for gpus in seen:
            self.assertEqual(len(gpus), len(set(gpus)), "no two jobs share a GPU")

    def gpus_of_jobs(self, study):
        """CUDA_VISIBLE_DEVICES of the programs that `study` runs at this moment."""
        gpus = []
        for child in Path(f"/proc/{study}/task/{study}/children").read_text().split():
            try:
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"train" in words[1:2]:
                gpus += [text[21:].decode() for text in variables if text.startswith(b"CUDA_VISIBLE_DEVICES=")]
        return gpus

    def test_an_added_size_starts_its_own_runs_alone(self):
        self.write(LOSS)
        self.study()
        ids = {run["id"] for run in self.runs()}
        self.write(LOSS + "[size.l]\nmodel.layers = 3\n")
        self.assertEqual(self.study().count("] started "), 3)
        self.assertTrue(ids < {run["id"] for run in self.runs()})

    def test_the_learning_rate_is_tuned_and_extrapolated(self):
        self.write(LOSS.replace("optim.lr = 1e-2\n", "").replace("branches = true", "branches = true\n[size.l]\nmodel.layers = 3\n"
                   "[tune]\nvalues = 3e-3, 1e-2, 3e-2\nfactor = 3\nsizes = s, m"))
        self.study()
        rows = self.table("lr.csv")
        self.assertGreaterEqual(len(rows), 6)
        best = [row for row in rows if row["best"] == "1"]
        self.assertEqual(len(best), 2, rows)
        for row in best:
            size = [other for other in rows if other["params"] == row["params"]]
            self.assertEqual(min(size, key=lambda one: float(one["loss"])), row)
        points = self.table("points.csv")
        main = {row["model"]: row["lr"] for row in points if row["use"] != "tuning"}
        self.assertEqual({main["s"], main["m"]}, {row["lr"] for row in best})
        self.assertEqual(len([row for row in points if row["role"] == "trunk"]), 3)

    def start_and_wait(self, steps):
        """The study in the background, once its trunk has done so many steps."""
        process = subprocess.Popen(self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for metrics in self.out.glob("runs/*/metrics.jsonl"):
                if metrics.read_text().count('"train"') >= steps:
                    return process, metrics.parent
            time.sleep(0.01)
        process.kill()
        self.fail(f"no run got to step {steps}: {process.communicate()[0]}")

    def test_a_stopped_study_goes_on_from_its_checkpoints(self):
        long = LOSS.replace("2560, 5120, 10240", "2e5, 4e5")
        self.write(long)
        process, _ = self.start_and_wait(20)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 75, output)
        self.assertIn("stopped ", output)
        self.assertIn("waiting", [run["status"] for run in self.runs()])
        # What was set is the same, so the rest is done by the same call.
        self.assertIn("resuming after step", self.finish_and_read_logs())

    def finish_and_read_logs(self):
        self.study()
        return "".join(log.read_text() for log in self.out.glob("runs/*/submit.log"))

    def end_orphans(self):
        found = subprocess.run(["pgrep", "-f", f"sluice train --config {self.out}"], stdout=subprocess.PIPE, text=True)
        for pid in found.stdout.split():
            os.kill(int(pid), signal.SIGTERM)

    def test_a_killed_study_leaves_its_runs_claimed_until_they_end(self):
        self.write(LOSS.replace("2560, 5120, 10240", "1e8"))
        process, run = self.start_and_wait(20)
        self.addCleanup(self.end_orphans)
        process.kill()
        process.wait()
        process.stdout.close()
        self.assertIn("running ", self.study("status"))
        self.assertIn("2 running", self.study(code=75))
        self.end_orphans()
        end = time.monotonic() + 60
        while "running " in self.study("status") and time.monotonic() < end:
            time.sleep(0.1)
        self.assertIn("2 waiting", self.study("status"))
        self.assertTrue((run / "checkpoints" / "latest").exists(), "they have left a checkpoint to go on from")

    def test_a_failed_run_is_listed_with_its_reason_and_tried_again_when_asked(self):
        self.write(LOSS.replace("2560, 5120, 10240", "2e5, 4e5"))
        process, run = self.start_and_wait(20)
        (pid,) = subprocess.run(["pgrep", "-f", f"sluice train --config {run}"], stdout=subprocess.PIPE, text=True).stdout.split()
        os.kill(int(pid), signal.SIGKILL)
        output = process.communicate(timeout=120)[0]
        self.assertEqual(process.returncode, 1, output)
        failed = [one for one in self.runs() if one["status"] == "failed"]
        self.assertEqual([one["id"] for one in failed], [run.name])
        self.assertIn("signal 9", failed[0]["reason"])
        self.assertIn(f"failed: {run.name}", output)
        self.assertEqual(len(self.losses()), 2, "the other trunk and its branch")
        self.assertNotIn("started", self.study(code=1))
        self.study("--retry")
        self.assertEqual(len(self.losses()), 4)

    def test_runs_of_another_version_are_marked_and_done_again_when_asked(self):
        self.write(LOSS)
        self.study()
        before = self.losses()
        run = Path(self.runs()[0]["directory"])
        resolved = run / "resolved.ini"
        resolved.write_text(re.sub(r"\(commit [^)]*\)", "(commit 000000000000)", resolved.read_text(), count=1))
        output = self.study()
        self.assertIn("1 of another version", output)
        self.assertNotIn("started", output)
        self.assertEqual([one["status"] for one in self.runs()].count("other-version"), 1)
        self.assertEqual(self.losses(), before, "collected all the same")
        self.assertEqual(self.study("--rerun").count("] started "), 1)
        self.assertTrue(Path(f"{run}.1").is_dir())
        self.assertEqual([one["status"] for one in self.runs()], ["done"] * 6)

    def test_faults_are_told_together_and_nothing_is_done(self):
        self.write(LOSS.replace("kind = loss", "kind = lost").replace("optim.lr = 1e-2", "optim.lt = 1e-2\nrun.dir = x")
                   + "token = 5\n[tune]\nfactor = 1\n")
        told = self.study(code=2)
        for words in ("study.kind = lost: must be loss or speed", "optim.lt: no setting of a run; did you mean optim.lr?",
                      "run.dir: a study gives it to its runs", "budgets.token: unknown key; did you mean budgets.tokens?",
                      "tune.factor = 1: must be a number, > 1"):
            self.assertIn(words, told)
        self.assertFalse(self.out.exists())
        self.write(LOSS)
        self.assertIn("did you mean status?", self.study("statsu", code=2))
        self.assertIn("--only gmlp-x: the study has no such run", self.study("--only", "gmlp-x", code=2))

    def test_a_speed_study_measures_each_cell(self):
        self.write("[study]\nname = fast\nkind = speed\ndir = {dir}\n[settings]\nconfig = {root}/configs/models/tiny.ini\n"
                   "train.device = cpu\ntrain.threads = 1\ntrain.global_batch = 4\ntrain.micro_batch = 2\n"
                   "[speed]\nranks = 1,2\nmodes = strong,weak\nsteps = 2\nwarmup = 1\n")
        self.study()
        rows = self.table("speed.csv")
        self.assertEqual([(row["mode"], row["ranks"], row["global_batch"]) for row in rows],
                         [("strong", "1", "4"), ("strong", "2", "4"), ("weak", "1", "4"), ("weak", "2", "8")])
        for row in rows:
            self.assertEqual((row["device"], row["dp"], row["sp"], row["reason"]), ("cpu", row["ranks"], "1", ""))
            self.assertGreater(float(row["tokens_per_s"]), 0)
            self.assertLessEqual(float(row["tokens_per_s_low"]), float(row["tokens_per_s_high"]))
        self.assertNotIn("started", self.study())


if __name__ == "__main__":
    unittest.main()
