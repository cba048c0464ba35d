#!/usr/bin/env python3
"""test_plan.py SLUICE LAUNCHER...: a cluster file measured on one and on two ranks, and what is planned from it."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "configs/models/tiny.ini"
QUICK = ["--config", str(MODEL), "--train.device=cpu", "--train.threads=1", "--steps", "3", "--seconds", "0.005"]
SLUICE, *LAUNCHER = sys.argv[1:]


def sluice(*words, ranks=1):
    launcher = [] if ranks == 1 else [*LAUNCHER, "-n", str(ranks)]
    return subprocess.run([*launcher, SLUICE, *map(str, words)], capture_output=True, text=True, timeout=200)


class Plan(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.one, cls.two = (Path(cls.scratch.name) / name for name in ("one.ini", "two.ini"))
        for words, ranks in ((["calibrate", "--out", cls.one], 1), (["--calibrate", cls.two], 2)):
            done = sluice("bench", *words, *QUICK, ranks=ranks)
            if done.returncode != 0:
                raise RuntimeError(done.stderr)

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def plan(self, cluster, *words, code=0):
        done = sluice("plan", MODEL, "--cluster", cluster, *words)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout if code != 2 else done.stderr

    def test_the_calibrated_ranks_are_planned_and_no_more_than_the_file_has_links_for(self):
        said = json.loads(self.plan(self.two, "--gpus", "1,2", "--json"))
        self.assertEqual(said["measured_ranks"], 2)
        for plan in said["ranks"]:
            best = plan["candidates"][0]
            self.assertGreater(best["step_s"], 0)
            self.assertFalse(best["extrapolated"])
            self.assertAlmostEqual(sum(best["causes_s"].values()), best["step_s"], places=9)
        self.assertIn("[link.network]", self.plan(self.one, "--gpus", "2", code=1))

    def test_a_file_with_a_network_and_prices_goes_on_from_a_measured_one(self):
        mine = Path(self.scratch.name) / "mine.ini"
        mine.write_text("include = two.ini\n[link.network]\nlatency_s = 1e-5\nbytes_per_s = 1e9\n[cost]\ngpu_hour = 2\n")
        said = self.plan(mine, "--gpus", "64", "--tokens", "1e9")
        self.assertIn("(extrapolated)", said)
        self.assertIn("EUR", said)
        self.assertIn("dp = 64 ranks for 8 sequences",
                      self.plan(mine, "--gpus", "64", "--sp", "1", "--train.global_batch=8", code=1))

    def test_what_cannot_be_is_refused_with_what_can(self):
        for words, said in ((["--gpus", "1,x"], "whole number"), (["--zero", "2"], "0 ... 1"),
                            (["--recompute", "all"], "none, gate or block"), (["--train.precision=bf16"], "train.precision"),
                            (["--gpu", "2"], "--gpus"), (["--model.layer=2"], "model.layers")):
            self.assertIn(said, self.plan(self.one, *words, code=2), words)
        self.assertEqual(sluice("plan", "--cluster", self.one).returncode, 2)
        self.assertEqual(sluice("bench", "calibrate", *QUICK).returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
