#!/usr/bin/env python3
"""test_report.py SLUICE: report of one run, of several, of two side by side, and what it refuses."""

import csv
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ["--config", str(ROOT / "configs/experiments/tiny.ini"), "--model.seq_len=32", "--model.d_model=32",
            "--model.d_ffn=64", f"--data.corpus={ROOT}/tests/fixtures/v1/corpus-chars"]
SLUICE = str(Path(sys.argv[1]).resolve())


def sluice(*words, cwd=None):
    return subprocess.run([SLUICE, *map(str, words)], capture_output=True, text=True, timeout=100, cwd=cwd)


class Reports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.scratch.name)
        for name, *more in (("first", ), ("again", ), ("faster", "--optim.lr=0.05")):
            done = sluice("train", *SETTINGS, f"--run.dir={cls.folder / name}", *more)
            if done.returncode != 0:
                raise RuntimeError(f"train exited {done.returncode}: {done.stderr}")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def page(self, *words):
        """The page that `sluice report` wrote, checked to be well formed, and its path."""
        done = sluice("report", *words, cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = self.folder / done.stdout.strip()
        text = path.read_text()
        xml.fromstring(text.split("\n", 1)[1])
        return text, path

    def refused(self, *words):
        done = sluice("report", *words, cwd=self.folder)
        self.assertEqual(done.returncode, 2, done.stdout)
        return done.stderr

    def test_a_run_has_a_page_its_twin_and_its_data(self):
        _, path = self.page("first")
        self.assertEqual(path, self.folder / "first/report.html")
        self.assertIn("# first\n", path.with_suffix(".md").read_text())
        folder = path.with_suffix("")
        for line in path.with_suffix(".md").read_text().splitlines():
            if line.startswith("!["):
                picture = path.parent / line.split("](")[1].rstrip(")")
                xml.fromstring(picture.read_text())
        with open(folder / "loss.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertIn("valid", {row["series"] for row in rows})

    def test_several_runs_are_laid_over_one_another(self):
        (self.folder / "other.csv").write_text("tokens,loss\n100,4\n1000,3\n")
        text, path = self.page("first", "faster", "--out", "both.html", "--overlay", "other.csv")
        self.assertEqual(path, self.folder / "both.html")
        for entry in ("first", "faster", "other"):
            self.assertIn(f"</span>{entry}</li>", text)
        self.assertIn("<td>optim.lr</td>", text)
        with open(self.folder / "both/loss-tokens.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual({row["series"] for row in rows}, {"first", "faster", "other"})

    def test_equal_runs_never_part_and_others_do_at_a_step(self):
        text, _ = self.page("first", "again", "--compare")
        self.assertIn("<dt>losses part</dt><dd>none", text)
        text, _ = self.page("first", "faster", "--compare")
        self.assertIn("<dt>losses part</dt><dd>step 2<", text)  # the first loss is of the same weights

    def test_what_is_no_run_or_curve_is_named(self):
        self.assertIn("nowhere: not a run directory", self.refused("nowhere"))
        self.assertIn("RUN|STUDY...: must be given", self.refused())
        self.assertIn("takes two runs or two studies, 1 given", self.refused("first", "--compare"))
        self.assertIn("must end in .html", self.refused("first", "--out", "page.pdf"))
        (self.folder / "bad.csv").write_text("tokens,perplexity\n1,2\n")
        self.assertIn("no column 'loss'", self.refused("first", "--overlay", "bad.csv"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
