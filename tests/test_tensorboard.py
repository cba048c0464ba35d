#!/usr/bin/env python3
"""test_tensorboard.py SLUICE: the event file of a run, of one that was stopped and went on, and of one that lost its last steps,
read by the tensorboard package, holds what metrics.jsonl holds. Skipped (77) without that package."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError as missing:
    print(f"skipped: the tensorboard package is not there ({missing}); launch/setup --tests installs it")
    sys.exit(77)

ROOT = Path(__file__).resolve().parent.parent
SLUICE = sys.argv.pop(1)


def sluice(*words):
    done = subprocess.run([SLUICE, *map(str, words)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def scalars(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def lines(run, kind):
    return [line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind]


class Tensorboard(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        text = cls.folder / "text.txt"
        text.write_text("the quick brown fox jumps over the lazy dog\n" * 400)
        sluice("prepare", "--input", text, "--out", cls.folder / "corpus", "--tokenizer", "bytes")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def train(self, run, *words, tensorboard="true"):
        sluice("train", "--config", ROOT / "configs/experiments/tiny.ini", f"--run.dir={run}",
               f"--data.corpus={self.folder / 'corpus'}", f"--train.tensorboard={tensorboard}", *words)

    def compare(self, run, valid_steps):
        read, train = scalars(run), lines(run, "train")
        for tag, key in (("loss/train", "loss"), ("lr", "lr"), ("grad_norm", "grad_norm"), ("tokens_per_s", "tokens_per_s"),
                         ("seconds/step_s", "step_s")):
            self.assertEqual([step for step, _ in read[tag]], [line["step"] for line in train], tag)
            for (_, value), line in zip(read[tag], train):
                self.assertAlmostEqual(value, line[key], delta=1e-6 * abs(line[key]) + 1e-12, msg=tag)
        self.assertEqual([step for step, _ in read["loss/valid"]], valid_steps)

    def test_a_run_reads_as_its_metrics(self):
        run = self.folder / "whole"
        self.train(run)
        self.compare(run, [8, 16, 24])
        self.assertLessEqual(len([path for path in run.rglob("*") if path.is_file() and not path.is_symlink()]), 12)

    def test_a_run_that_goes_on_from_an_earlier_checkpoint_shows_each_step_once(self):
        run = self.folder / "on"
        self.train(run, "--optim.schedule=constant", "--train.steps=20")
        (run / "checkpoints/latest").unlink()
        newest = max((run / "checkpoints").iterdir())
        for path in newest.iterdir():
            path.unlink()
        newest.rmdir()
        events = run / "events.out.tfevents.sluice"
        with events.open("ab") as torn:
            torn.write(b"\x10\0\0\0")
        before = events.read_bytes()[:-4]
        self.train(run, "--optim.schedule=constant", "--train.steps=24")
        self.assertTrue(events.read_bytes().startswith(before), "a viewer's place in the file stays good")
        self.assertEqual([line["step"] for line in lines(run, "train")], list(range(1, 25)))
        self.compare(run, [8, 16, 24])

    def test_no_file_unless_asked_for(self):
        run = self.folder / "without"
        self.train(run, tensorboard="false")
        self.assertEqual(list(run.glob("*tfevents*")), [])


if __name__ == "__main__":
    unittest.main()
