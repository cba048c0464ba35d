#!/usr/bin/env python3
"""Batch jobs of the real program on a real Slurm, which launch/slurm/test-cluster starts and stops.

  slurm_jobs.py --sluice PROGRAM [--only NAME]

Standard library only. Exit code 77, which skips the test, where Slurm is not installed or this is not root. A minute is
the shortest time limit that Slurm knows, and it looks at limits every half minute: the jobs that run into one run side by
side. Steps are as slow as a few cores make them; nothing here depends on how many are done before a signal comes.
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "mpi"))
import train_jobs  # noqa: E402

LAUNCH = REPOSITORY / "launch" / "slurm"
GLOBAL_BATCH = 32
# Strict: no requeue unless a job asks for it, arrays of at most five.
CLUSTER = ("JobRequeue=0", "MaxArraySize=5")
RUNNING = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED", "SUSPENDED", "SIGNALING")
ENDLESS = 1000000


class Cluster:
    """Started and stopped around the tests; sbatch and scontrol of it."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def __enter__(self):
        self.act("start", *CLUSTER)
        os.environ["SLURM_CONF"] = str(self.directory / "slurm.conf")
        return self

    def __exit__(self, *_):
        self.act("stop")
        left = subprocess.run(["pgrep", "-f", str(self.directory)], stdout=subprocess.PIPE, text=True).stdout.split()
        left = [pid for pid in left if int(pid) != os.getpid()]
        assert not left, f"still running after stop: {left}"

    def act(self, action, *words):
        done = subprocess.run([LAUNCH / "test-cluster", action, self.directory, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def sbatch(self, script, *arguments):
        done = subprocess.run(["sbatch", "--parsable", script, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, cwd=REPOSITORY, timeout=60)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def job(self, job):
        shown = subprocess.run(["scontrol", "show", "job", "-o", job], stdout=subprocess.PIPE, text=True, timeout=60).stdout
        return dict(re.findall(r"(\w+)=(\S*)", shown))

    def wait(self, job, seconds=240):
        """The job's end, whatever it is."""
        return until(f"job {job} ends", lambda: (lambda info: info["JobState"] not in RUNNING and info)(self.job(job)), seconds)


def until(what, found, seconds=150):
    """found() as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Work:
    """Runs in a directory of their own: settings in a file that may change between two lives of a job."""

    def __init__(self, sluice, directory):
        self.place = train_jobs.Place(sluice, directory)
        self.sluice = self.place.sluice
        self.directory = Path(directory)

    def settings(self, name, steps):
        """Writes the INI file of run `name`. The learning rate is constant: the steps may change when the run goes on."""
        file = self.directory / f"{name}.ini"
        text = (f"[run]\nseed = 1\ndir = {self.directory / name}\n[data]\ncorpus = {self.place.corpus}\n"
                f"[train]\nsteps = {steps}\nglobal_batch = {GLOBAL_BATCH}\nmicro_batch = 8\nthreads = 1\ndevice = cpu\n"
                f"ledger = {self.directory / name}.ledger\n[model]\nlayers = 2\nd_model = 64\nd_ffn = 256\nseq_len = 64\n"
                "[optim]\nschedule = constant\nwarmup_steps = 4\n[eval]\nevery = 0\n[checkpoint]\nevery = 20\n")
        partial = file.with_suffix(".new")
        partial.write_text(text)
        partial.rename(file)
        return file

    def finish_soon(self, name):
        """Ten more steps than the metrics hold, and later lives of the job may start; returns what they hold."""
        done = self.steps(name)
        self.settings(name, done + 10)
        (self.directory / f"{name}.go").touch()
        return done

    def script(self, name, template, **lines):
        """The template as somebody edits it: #SBATCH options replaced (None: left away), run and settings filled in."""
        text = (LAUNCH / template).read_text()
        options = {"nodes": 1, "ntasks-per-node": 2, "cpus-per-task": 1, "time": 1, "job-name": name,
                   "output": self.directory / f"{name}.log", **{key.replace("_", "-"): value for key, value in lines.items()}}
        for key, value in options.items():
            line = "" if value is None else f"#SBATCH --{key}{'=' if value != '' else ''}{value}"
            text = re.sub(rf"^#SBATCH --{key}\b.*$", line, text, flags=re.M)
        edits = {"run=": f"run={self.directory / name}", r"settings=\(": f"settings=(--config {self.directory / name}.ini)",
                 "PATH=": f"PATH={Path(self.sluice).parent}:$PATH",
                 # a later life waits until the test has said how many steps are left
                 "# module load": f"[ ! -e {self.directory / name} ] || until [ -e {self.directory / name}.go ]; do sleep 0.1; done"}
        for start, line in edits.items():
            text, count = re.subn(rf"^{start}.*$", line, text, flags=re.M)
            assert count == 1, f"{template}: {count} lines {start}"
        file = self.directory / f"{name}.sbatch"
        file.write_text(text)
        return file

    def log(self, name):
        file = self.directory / f"{name}.log"
        return file.read_text() if file.exists() else ""

    def steps(self, name):
        metrics = self.directory / name / "metrics.jsonl"
        return metrics.read_text().count('"train"') if metrics.exists() else 0

    def check_run(self, name, steps):
        """Each sample once, and the losses of a run on as many ranks that nothing disturbed."""
        losses = self.place.losses(name)
        assert len(losses) == steps, f"{name}: {len(losses)} losses of {steps}"
        self.check_ledger(self.directory / f"{name}.ledger", steps)
        straight = self.straight(steps)
        first = next((i for i in range(steps) if losses[i] != straight[i]), None)
        assert first is None, f"{name}: step {first + 1} has loss {losses[first]}, an undisturbed run {straight[first]}"
        files = sorted(path.name for path in (self.directory / name).iterdir())
        assert len(files) <= 12, f"{name} holds {files}"

    def check_ledger(self, file, steps):
        ledger = [json.loads(line) for line in file.read_text().splitlines()]
        expected = [{"step": i + 1, "first": i * GLOBAL_BATCH, "count": GLOBAL_BATCH} for i in range(steps)]
        assert ledger == expected, f"{file}: {len(ledger)} lines for {steps} steps"

    def straight(self, steps):
        """Losses of one undisturbed run on two ranks, continued as far as they are asked for."""
        if self.steps("straight") < steps:
            self.place.check([str(train_jobs.LAUNCHER), "-n", "2", "--", self.sluice, "train", "--config",
                              str(self.settings("straight", steps)), "--run.new=true"])
        return self.place.losses("straight")


def check_time_limits(cluster, work):
    """A limit strikes mid-run: the job goes on by requeue (srun, mpirun), or by a successor where requeue is not
    allowed (a job, an element of an array)."""
    lead = 45
    kinds = {"srun": ("srun.sbatch", {"signal": f"USR1@{lead}"}), "mpirun": ("mpirun.sbatch", {"signal": f"B:USR1@{lead}"}),
             "successor": ("srun.sbatch", {"signal": f"USR1@{lead}", "requeue": None}),
             "element": ("array.sbatch", {"signal": f"USR1@{lead}", "requeue": None, "array": 1})}
    succeeded = ("successor", "element")
    jobs, done = {}, {}
    for name, (template, lines) in kinds.items():
        work.settings(name, ENDLESS)
        jobs[name] = cluster.sbatch(work.script(name, template, **lines))
    for name, job in jobs.items():
        until(f"{name} stops before its limit", lambda: "stopped before its time limit: " in work.log(name).replace("requeued\n", ""))
        assert "ended with exit code 75" in work.log(name), work.log(name)
        if name in succeeded:
            assert "cannot be requeued" in work.log(name), work.log(name)
            jobs[name] = until("the successor's number", lambda: re.search(r"job (\d+) goes on after it", work.log(name)))[1]
            assert cluster.wait(job)["ExitCode"] == "75:0", cluster.job(job)
        done[name] = work.finish_soon(name)
    for name, job in jobs.items():
        info = cluster.wait(job)
        assert info["JobState"] == "COMPLETED", f"{name}: {info}\n{work.log(name)}"
        assert info["Restarts"] == ("0" if name in succeeded else "1"), info
        assert f"resuming after step {done[name]}" in work.log(name), work.log(name)
        work.check_run(name, done[name] + 10)


def check_preemption(cluster, work):
    """`scontrol requeue` mid-run. srun's ranks write a checkpoint; mpirun may end its ranks before: the last one serves."""
    kinds = {"taken-srun": "srun.sbatch", "taken-mpirun": "mpirun.sbatch"}
    jobs, done = {}, {}
    for name, template in kinds.items():
        work.settings(name, ENDLESS)
        jobs[name] = cluster.sbatch(work.script(name, template, time=10))
    for name, job in jobs.items():
        until(f"{name} has done 25 steps", lambda: work.steps(name) >= 25)
        subprocess.run(["scontrol", "requeue", job], check=True)
        until(f"{name} waits again", lambda: cluster.job(job)["JobState"] == "PENDING")
        done[name] = work.finish_soon(name)
    for name, job in jobs.items():
        info = cluster.wait(job)
        assert info["JobState"] == "COMPLETED" and info["Restarts"] == "1", f"{name}: {info}\n{work.log(name)}"
        resumed = re.findall(r"resuming after step (\d+)", work.log(name))
        assert len(resumed) == 1 and 20 <= int(resumed[0]) <= done[name], work.log(name)
        assert name == "taken-mpirun" or int(resumed[0]) == done[name], work.log(name)
        work.check_run(name, done[name] + 10)


def check_killed_task(cluster, work):
    """A rank that is killed ends its job as failed, which is not begun again by itself; the same sbatch goes on."""
    work.settings("killed", ENDLESS)
    script = work.script("killed", "srun.sbatch", time=10)
    job = cluster.sbatch(script)
    until("killed has done 25 steps", lambda: work.steps("killed") >= 25)
    pattern = rf"[^ ]*sluice train --config {work.directory}/killed.ini"
    ranks = subprocess.run(["pgrep", "-x", "-f", pattern], stdout=subprocess.PIPE, text=True).stdout.split()
    assert len(ranks) == 2, ranks
    os.kill(int(ranks[1]), signal.SIGKILL)
    info = cluster.wait(job)
    assert info["JobState"] == "FAILED" and info["ExitCode"] not in ("0:0", "75:0") and info["Restarts"] == "0", f"{info}\n{work.log('killed')}"
    assert "requeued" not in work.log("killed") and "goes on after it" not in work.log("killed"), work.log("killed")
    done = work.finish_soon("killed")
    info = cluster.wait(cluster.sbatch(script))
    assert info["JobState"] == "COMPLETED", f"{info}\n{work.log('killed')}"
    work.check_run("killed", done + 10)


SITE = """[sbatch]
#SBATCH --partition=main
[prologue]
export SLUICE_PROGRESS=lines
[launch]
command = srun --mpi=pmix --ntasks={{ranks}} {{command}}
lead = 30
requeue = {requeue}
ranks_per_node = {ranks_per_node}
[limits]
time = 10
array = 5
running = 4
"""


def submit(work, site, *words):
    """`sluice submit`: the numbers of the jobs."""
    output = work.place.check([work.sluice, "submit", words[0], "--cluster", str(site), *words[1:]])
    jobs = re.findall(r"submitted job (\d+)", output)
    assert jobs, output
    return jobs


def check_submit(cluster, work):
    """`sluice submit`: two ranks on two nodes; nothing is written by a dry run; taken away, it goes on like any other."""
    site = work.directory / "two-nodes.ini"
    site.write_text(SITE.format(requeue="true", ranks_per_node=1))
    file = work.settings("submitted", ENDLESS)
    dry = work.place.check([work.sluice, "submit", str(file), "--cluster", str(site), "--ranks", "2", "--dry-run"])
    assert "#SBATCH --nodes=2\n" in dry and not (work.directory / "submitted").exists(), dry
    (job,) = submit(work, site, str(file), "--ranks", "2")
    log = work.directory / "submitted" / "submit.log"
    until("submitted has done 25 steps", lambda: work.steps("submitted") >= 25)
    assert cluster.job(job)["NumNodes"] == "2", cluster.job(job)
    subprocess.run(["scontrol", "requeue", job], check=True)
    until("submitted waits again", lambda: cluster.job(job)["JobState"] == "PENDING")
    steps = work.steps("submitted") + 10
    frozen = work.directory / "submitted" / "submit.ini"
    frozen.write_text(frozen.read_text().replace(f"steps = {ENDLESS}\n", f"steps = {steps}\n"))
    info = cluster.wait(job)
    assert info["JobState"] == "COMPLETED" and info["Restarts"] == "1", f"{info}\n{log.read_text()}"
    assert f"resuming after step {steps - 10}" in log.read_text(), log.read_text()
    work.check_run("submitted", steps)


def check_array(cluster, work):
    """Seven runs where an array may have five elements: two arrays, the second after the first, at most four at once."""
    site = work.directory / "site.ini"
    site.write_text(SITE.format(requeue="false", ranks_per_node=2))
    refused = subprocess.run(["sbatch", "--array=0-6", "--wrap=true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert refused.returncode != 0 and "array" in refused.stdout, f"MaxArraySize is not in force: {refused.stdout}"
    words = [str(work.settings("sweep", 10)), "--array", "run.seed=1..7"]
    jobs = submit(work, site, *words)
    assert len(jobs) == 2, jobs
    assert cluster.job(jobs[0])["ArrayTaskThrottle"] == "4", cluster.job(jobs[0])
    assert jobs[0] in cluster.job(jobs[1])["Dependency"], cluster.job(jobs[1])
    queue = ["squeue", "-h", "-j", ",".join(jobs)]
    until("both arrays end", lambda: not subprocess.run(queue, stdout=subprocess.PIPE, text=True, check=True).stdout)
    logs = {i: (work.directory / "sweep" / str(i) / "submit.log").read_text() for i in range(7)}
    for i in range(7):
        assert len(work.place.losses(f"sweep/{i}")) == 10, logs[i]
        work.check_ledger(work.directory / "sweep" / str(i) / "sweep.ledger", 10)
    for i in (0, 4, 6):
        work.place.check([work.sluice, "train", "--config", words[0], f"--run.seed={i + 1}",
                          f"--run.dir={work.directory}/alone-{i}", f"--train.ledger={work.directory}/alone-{i}.ledger"])
        assert work.place.losses(f"sweep/{i}") == work.place.losses(f"alone-{i}"), f"element {i}: other losses than alone"
    assert work.place.losses("sweep/0") != work.place.losses("sweep/5"), "elements 0 of both arrays are one run"
    assert (work.directory / "sweep" / "submit.sbatch").exists()


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def skip_where_there_is_none():
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [program for program in ("slurmctld", "slurmd", "munged", "sbatch", "srun") if not shutil.which(program)]
    if missing:
        skip(f"{', '.join(missing)} not installed (launch/setup --tests installs them as root)")
    if os.geteuid() != 0:
        skip("Slurm's daemons run as root")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--only", default="", help="a part of the name of the checks to run")
    options = parser.parse_args()
    skip_where_there_is_none()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the cluster is stopped on the way out
    os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    checks = [function for name, function in globals().items() if name.startswith("check_") and options.only in name]
    with tempfile.TemporaryDirectory(prefix="sluice-slurm-") as directory:
        os.chmod(directory, 0o755)  # Slurm's user munge must get in
        work = Work(options.sluice, directory)
        with Cluster(Path(directory) / "cluster") as cluster:
            for check in checks:
                began = time.monotonic()
                check(cluster, work)
                print(f"ok   {check.__name__[6:]}: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
