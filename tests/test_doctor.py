#!/usr/bin/env python3
"""test_doctor.py SLUICE MPIEXEC...: sluice doctor as a user calls it, and jobs that fell apart, on this machine."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests/fixtures/v1/corpus-chars"
SLUICE, *MPIEXEC = sys.argv[1:]
CHECKS = {"launch", "libraries", "GPUs", "shared memory", "limits", "binding", "clocks", "exchange", "products"}


def run(*words, **environment):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=100,
                          env={**os.environ, **{name: str(value) for name, value in environment.items()}})


def doctor(*words, ranks=1, wrapper=(), **environment):
    launcher = [] if ranks == 1 else [*MPIEXEC, "-n", str(ranks)]
    return run(*launcher, *wrapper, SLUICE, "doctor", *words, **environment)


def findings(done):
    """By what was looked at, directories under that one word; only what one process printed is JSON."""
    found = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["what"].split(" /")[0], []).append(finding)
    return found


class Doctor(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def severity(self, done, what):
        return [finding["severity"] for finding in findings(done)[what]]

    def test_one_and_two_ranks_get_every_check_and_each_finding_its_fix(self):
        for ranks in (1, 2):
            done = doctor("--json", "--dir", self.scratch.name, ranks=ranks)
            found = findings(done)
            self.assertLessEqual(CHECKS, found.keys(), done.stdout + done.stderr)
            self.assertTrue(found.keys() & {"directories", "directory"})
            for finding in sum(found.values(), []):
                self.assertEqual(finding["severity"] == "good", finding["fix"] == "", finding)
            # What the machine is like decides the others: room, /dev/shm, load.
            for what in ("launch", "libraries", "binding", "clocks"):
                self.assertEqual(self.severity(done, what), ["good"], found[what])
            result = json.loads(done.stdout)
            self.assertEqual(result["faults"] > 0, done.returncode == 1, done.stdout)
            self.assertEqual([rank for node in result["nodes"] for rank in node["ranks"]], list(range(ranks)))
            self.assertIn("libmpi", found["libraries"][0]["value"])
            self.assertNotIn("wrong sum", done.stdout)
        self.assertEqual(os.listdir(self.scratch.name), [])

    def test_lines_say_the_same(self):
        done = doctor("--dir", self.scratch.name, ranks=2)
        lines = done.stdout.splitlines()
        self.assertRegex(lines[0], r"^2 ranks on 1 node \(\S+ ranks 0-1\)$")
        self.assertRegex(lines[1], r"^good +launch: 2 ranks, (OMPI_COMM_WORLD_SIZE|PMI_SIZE)=2$")
        self.assertRegex(lines[-1], r"^\d+ faults, \d+ warnings$")

    def test_ranks_bound_to_one_core_are_a_fault_where_there_are_more(self):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            self.skipTest("one core")
        done = doctor("--json", "--dir", self.scratch.name, ranks=2, wrapper=("taskset", "-c", cores[0]))
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(self.severity(done, "binding"), ["fault"])
        self.assertIn(f"2 ranks share core {cores[0]}", done.stdout)

    def test_a_process_of_a_job_that_fell_apart_says_so_and_only_the_first_speaks(self):
        for environment, words in (({"OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": 0}, "OMPI_COMM_WORLD_SIZE=2"),
                                   ({"PMI_SIZE": 2, "PMI_RANK": 0}, "PMI_SIZE=2"),
                                   ({"SLURM_STEP_NUM_TASKS": 2, "SLURM_NTASKS": 2, "SLURM_PROCID": 0}, "srun --mpi=pmix")):
            done = doctor("--json", "--dir", self.scratch.name, **environment)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(self.severity(done, "launch"), ["fault"])
            self.assertIn(words, done.stdout)
        silent = doctor("--dir", self.scratch.name, OMPI_COMM_WORLD_SIZE=2, OMPI_COMM_WORLD_RANK=1)
        self.assertEqual((silent.returncode, silent.stdout), (1, ""), silent.stderr)

    def test_one_process_in_a_batch_job_of_two_tasks_is_a_warning(self):
        done = doctor("--json", "--dir", self.scratch.name, SLURM_NTASKS=2)
        self.assertEqual(self.severity(done, "launch"), ["warning"])
        self.assertEqual(doctor("--strict", "--dir", self.scratch.name, SLURM_NTASKS=2).returncode, 1)

    def test_training_refuses_a_job_that_fell_apart(self):
        train = (SLUICE, "train", "--config", ROOT / "configs/experiments/tiny.ini", f"--data.corpus={CORPUS}",
                 f"--run.dir={self.scratch.name}/run")
        for rank, said in ((0, True), (1, False)):
            for environment in ({"OMPI_COMM_WORLD_SIZE": 2, "OMPI_COMM_WORLD_RANK": rank},
                                {"SLURM_STEP_NUM_TASKS": 2, "SLURM_PROCID": rank}):
                done = run(*train, **environment)
                self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
                self.assertEqual("2 processes were started" in done.stderr, said, done.stderr)
                self.assertFalse(os.path.exists(f"{self.scratch.name}/run"))

    def test_bad_input_is_named(self):
        done = doctor("--dir", "/no/such/place")
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("/no/such/place", done.stderr)
        self.assertEqual(doctor("--frobnicate").returncode, 2)
        self.assertEqual(doctor("--device", "tpu").returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
