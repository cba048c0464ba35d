#!/usr/bin/env python3
"""test_fit_command.py SLUICE: `sluice fit` on the paper's Table 4, as docs/fits.md shows it, and on faulty tables."""

import csv
import json
import math
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
TABLE4 = ROOT / "configs/studies/paper_table4.csv"
sluice = None


def fit(*words):
    return subprocess.run([sluice, "fit", *map(str, words)], capture_output=True, text=True)


def table4_json():
    done = fit(TABLE4, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def numbers(text):
    return [float(one) for one in re.findall(r"[0-9.e+-]*[0-9]", text.replace(" to ", " "))]


class Table4(unittest.TestCase):
    def test_losses_are_the_logarithms_of_the_papers_perplexities(self):
        with open(TABLE4, newline="") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(len(rows), 12)
        for row in rows:
            self.assertAlmostEqual(float(row["loss"]), math.log(float(row["perplexity"])), places=4)

    def test_the_documents_table_is_what_the_program_says(self):
        text = (ROOT / "docs/fits.md").read_text()
        fits = table4_json()["fits"]
        for family in ("Transformer", "gMLP", "aMLP"):
            law, line = [one["parameters"] for one in fits if one["family"] == family]
            row = re.search(rf"^\| {family} \| (.*) \| (.*) \| (.*) \|$", text, re.M)
            self.assertIsNotNone(row, family)
            for cell, one in zip(row.groups(), (law["E"], law["a"], line["a"])):
                for written, value in zip(numbers(cell), (one["value"], one["low"], one["high"]), strict=True):
                    self.assertAlmostEqual(written / value, 1.0, delta=0.02, msg=cell)

    def test_a_line_in_logarithms_has_the_slope_of_least_squares_nearly(self):
        for one in table4_json()["fits"]:
            if one["form"] == "L(N) = A / N^a" and one["family"] == "gMLP":
                self.assertAlmostEqual(one["parameters"]["a"]["value"], 0.164, delta=0.03)

    def test_pages_and_csvs_are_written(self):
        with tempfile.TemporaryDirectory() as folder:
            done = fit(TABLE4, "--out", folder)
            if "gnuplot" in done.stderr:
                self.skipTest(done.stderr)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("E + A / N^a", done.stdout)
            html = (Path(folder) / "fit.html").read_text()
            self.assertIn("<svg", html)
            self.assertNotIn("http", re.sub(r'xmlns(:\w+)?="[^"]*"', "", html))
            self.assertIn("Families beside each other", (Path(folder) / "fit.md").read_text())
            with open(Path(folder) / "fit/fit-laws.csv", newline="") as file:
                laws = list(csv.DictReader(file))
            self.assertEqual(len(laws), 15)  # three families, three parameters with E and two without
            for law in laws:
                self.assertLess(float(law["low"]), float(law["high"]))
            with open(Path(folder) / "fit/fit-residuals.csv", newline="") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual(len(rows), 24)  # 12 rows, with E and without
            for row in rows:
                ratio = float(row["measured"]) / float(row["predicted"])
                self.assertAlmostEqual(float(row["log_residual"]), math.log(ratio), places=9)


class Faults(unittest.TestCase):
    def expect(self, text, *words):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.csv"
            path.write_text(text)
            done = fit(path)
        self.assertEqual(done.returncode, 2, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_each_is_named_and_exits_2(self):
        self.expect("params,loss\n1e6\n", "line 2: 1 fields, but the header has 2 columns")
        self.expect("params,loss\n1e6,x\n0,3\n", "line 2, column loss: 'x'", "line 3, column params: 0 is not positive")
        self.expect("", "no line with the columns' names")
        done = fit(TABLE4, "--level", "2")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--level", done.stderr)
        self.assertEqual(fit("/nowhere.csv").returncode, 2)

    def test_what_is_refused_is_no_fault(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.csv"
            path.write_text("params,loss\n1e6,4\n1e7,3.5\n")
            done = fit(path, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("too few cells: 2 different N", json.loads(done.stdout)["fits"][0]["refusal"])


if __name__ == "__main__":
    sluice = sys.argv.pop(1)
    unittest.main()
