#!/usr/bin/env python3
"""netns_jobs.py SLUICE: launch/mpirun.sh over two hosts (netns_hosts.py). Exit code 77 where such hosts cannot be made."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from netns_hosts import Hosts, NoNamespaces  # noqa: E402
from train_jobs import LAUNCHER, Place, wait_for_step  # noqa: E402

STEPS = ("train.steps=60", "checkpoint.every=20", "eval.every=30")
ENDLESS = ("train.steps=100000", "checkpoint.every=0", "eval.every=0")

# The host that was lost: Open MPI names it only if its daemon's connection ends before the remote shell does, else
# launch/remote_shell.sh does.
NAMED = r"on node node-b|host node-b: "


class Jobs(unittest.TestCase):
    hosts = place = None

    @classmethod
    def setUpClass(cls):
        cls.place.train("one-host", 3, *STEPS)

    def launch(self, slots, *words, **environment):
        """A job of as many ranks as there are slots, started on node-a."""
        hostfile = self.hosts.directory / "hostfile"
        hostfile.write_text("".join(f"{name} slots={count}\n" for name, count in slots.items()))
        command = self.hosts.on("node-a", str(LAUNCHER), "-n", str(sum(slots.values())), "--hostfile", str(hostfile), "--", *words)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
                                env={**os.environ, "OMPI_MCA_plm_rsh_agent": str(self.hosts.agent), **environment})

    def train(self, name, slots, *settings, **environment):
        return self.launch(slots, *self.place.command(name, 0, *settings), **environment)

    def ends(self, process, code=0, seconds=40):
        output, _ = process.communicate(timeout=seconds)
        self.assertEqual(process.returncode, code, output)
        return output

    def expect_the_run_of_one_host(self, name):
        self.assertEqual(self.place.tensors(name), self.place.tensors("one-host"))
        for kind in ("train", "valid"):
            self.assertEqual(self.place.losses(name, kind), self.place.losses("one-host", kind))
        self.place.check_ledger(name, 60)

    def test_three_ranks_on_two_hosts_train_what_they_train_on_one(self):
        told = self.ends(self.train("home/two-hosts", {"node-a": 2, "node-b": 1}, *STEPS, f"data.stage={self.hosts.disk}"))
        self.assertIn("3 ranks on 2 nodes (node-a ranks 0-1, node-b rank 2): cpu, 1 thread each", told)
        self.assertIn("exchange: mpi", told)
        self.assertIn("copied on 2 and found on 0 of 2 nodes", told)
        self.expect_the_run_of_one_host("home/two-hosts")  # which the rank on node-b could not have written to
        for disk in self.hosts.disks.values():
            (copy,) = disk.iterdir()
            original = sorted(path.name for path in self.place.corpus.iterdir())
            self.assertEqual(sorted(path.name for path in copy.iterdir()), original)

    def test_a_signal_on_one_host_stops_the_ranks_of_both_after_a_checkpoint(self):
        job = self.train("stopped", {"node-a": 1, "node-b": 2}, *STEPS)
        wait_for_step(self.place, "stopped", 10, job)
        job.terminate()
        self.assertIn("stopped by a signal", self.ends(job, code=75))
        self.place.train("stopped", 3, *STEPS)
        self.expect_the_run_of_one_host("stopped")

    def test_ranks_of_other_hosts_get_the_environment(self):
        show = 'echo "$(hostname) [$SLUICE_PROBE] [$NCCL_PROBE] [$OMP_NUM_THREADS] [$LD_LIBRARY_PATH] [$OTHER]"'
        job = self.launch({"node-a": 1, "node-b": 1}, "sh", "-c", show, SLUICE_PROBE="a b;c", NCCL_PROBE="=1", OMP_NUM_THREADS="3",
                          LD_LIBRARY_PATH="/nowhere", OTHER="x")
        lines = self.ends(job).splitlines()
        self.assertIn("node-a [a b;c] [=1] [3] [/nowhere] [x]", lines)
        self.assertIn("node-b [a b;c] [=1] [3] [/nowhere] []", lines)

    def test_doctor_sees_both_hosts_and_what_they_do_not_share(self):
        output = self.ends(self.launch({"node-a": 1, "node-b": 1}, self.place.sluice, "doctor", "--json", "--dir",
                                       str(self.hosts.home), str(self.hosts.disk)), code=1)
        (report,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        self.assertEqual(report["nodes"], [{"host": "node-a", "ranks": [0]}, {"host": "node-b", "ranks": [1]}])
        found = {finding["what"]: finding for finding in report["findings"]}
        self.assertEqual(found["launch"]["severity"], "good")
        self.assertEqual(found["clocks"]["severity"], "good")
        home, disk = found[f"directory {self.hosts.home}"], found[f"directory {self.hosts.disk}"]
        self.assertEqual((home["severity"], disk["severity"]), ("warning", "fault"))
        self.assertIn("node-b: no file can be made there", home["value"])
        self.assertIn("node-b: is not the directory that rank 0 sees", disk["value"])

    def lose(self, name, lose):
        """Starts a job on both hosts, loses one by `lose` and gives what the job said when it ended."""
        quick = {"OMPI_MCA_oob_tcp_keepalive_" + key: value for key, value in (("time", "2"), ("intvl", "1"), ("probes", "2"))}
        job = self.train(name, {"node-a": 1, "node-b": 1}, *ENDLESS, **quick)
        wait_for_step(self.place, name, 10, job)
        lose("node-b")
        output, _ = job.communicate(timeout=30)
        self.assertNotIn(job.returncode, (0, 75), output)
        return output

    def test_a_host_whose_processes_die_ends_the_job(self):
        self.assertRegex(self.lose("killed", self.hosts.kill).split("step 1/")[1], NAMED)

    def test_a_host_that_falls_silent_ends_the_job_and_is_named(self):
        self.addCleanup(self.hosts.plug, "node-b")
        self.assertRegex(self.lose("unplugged", self.hosts.unplug).split("step 1/")[1], NAMED)


def main():
    sluice = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="sluice-hosts-") as directory:
        try:
            with Hosts(directory) as Jobs.hosts:
                Jobs.place = Place(sluice, directory)
                result = unittest.main(argv=sys.argv[:1], verbosity=2, exit=False).result
                return 0 if result.wasSuccessful() else 1
        except NoNamespaces as reason:
            print(f"skipped: {reason}")
            return 77


if __name__ == "__main__":
    sys.exit(main())
