"""What the scripts of this folder share: the sizes, and programs run under a time limit that hand back one JSON line."""

import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
VOCABULARY = 32000


@dataclass(frozen=True)
class Size:
    name: str
    model: str  # configs/models/MODEL.ini
    batch: int  # sequences a GPU
    vocabulary: int = VOCABULARY

    def words(self, ranks=1, precision="bf16"):
        """Settings for `sluice bench step` and for the peer alike."""
        return ["--config", str(ROOT / f"configs/models/{self.model}.ini"), f"--train.micro_batch={self.batch}",
                f"--train.global_batch={self.batch * ranks}", f"--train.precision={precision}",
                "--vocabulary", str(self.vocabulary)]


SIZES = {size.name: size for size in (Size("base", "base", 64), Size("base16", "base", 16), Size("n128", "n128", 256),
                                      Size("large", "large", 32), Size("wide", "wide", 32), Size("n4096", "n4096", 8),
                                      Size("n16384", "n16384", 2), Size("gpt2", "gpt2", 32, vocabulary=50304))}


def size_named(text):
    """A size of the table, or MODEL:BATCH."""
    if text in SIZES:
        return SIZES[text]
    model, _, batch = text.partition(":")
    if not batch.isdigit() or not (ROOT / f"configs/models/{model}.ini").exists():
        raise SystemExit(f"{text}: no size; there are {', '.join(SIZES)}, and MODEL:BATCH of configs/models")
    return Size(text, model, int(batch))


def find_sluice():
    """$SLUICE, else sluice in PATH, else this checkout's build."""
    found = os.environ.get("SLUICE") or shutil.which("sluice") or str(ROOT / "build/release/sluice")
    if not os.access(found, os.X_OK):
        raise SystemExit(f"{found} is no program: build sluice, or name it in SLUICE")
    return found


def peer_command(words, ranks=1, port=29501):
    peer = str(ROOT / "tests/bench/peer_torch.py")
    if ranks == 1:
        return [sys.executable, peer, *words]
    return [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", f"--master-port={port}", peer, *words]


def sluice_command(words, ranks=1, part="step"):
    run = [find_sluice(), "bench", part, "--json", *words]
    return run if ranks == 1 else [str(ROOT / "launch/mpirun.sh"), "-n", str(ranks), "--", *run]


def end_children_when_told_to():
    """SIGTERM unwinds as an exception does, so that programs begun here end too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Clock:
    """Seconds left of a budget for everything together."""

    def __init__(self, budget_s):
        self.end = time.monotonic() + budget_s

    def left(self):
        return max(0.0, self.end - time.monotonic())


class Job:
    """A program with its log; `result()` is the last JSON line that it printed, or {"failed": why}."""

    def __init__(self, command, log, environment=None):
        self.log = pathlib.Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.began = time.monotonic()
        with open(self.log, "wb") as out:
            out.write(("$ " + " ".join(map(str, command)) + "\n").encode())
            out.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                            env={**os.environ, **(environment or {})}, start_new_session=True)

    def running(self):
        return self.process.poll() is None

    def end(self):
        if self.running():
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    def result(self, limit_s):
        try:
            self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.end()
            return {"failed": f"not done within {limit_s:.0f} s", "log": str(self.log)}
        return self._parsed()

    def _parsed(self):
        lines = self.log.read_text(errors="replace").splitlines()[1:]
        for line in reversed(lines):
            if line.startswith("{") and self.process.returncode == 0:
                try:
                    return {**json.loads(line), "wall_s": round(time.monotonic() - self.began, 1)}
                except json.JSONDecodeError:
                    break
        return {"failed": f"exit code {self.process.returncode}: {last_words(lines)}", "log": str(self.log)}


class Gpus:
    """The GPUs of this host that runs of one rank are dealt out to: each goes where the fewest are."""

    def __init__(self, count):
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        self.names = (seen.split(",") if seen else [str(index) for index in range(count)])[:count]
        self.running = {name: set() for name in self.names}

    def take(self, run):
        """What the run's environment needs to see its GPU alone; nothing where there is one for all."""
        name = min(self.names, key=lambda name: len(self.running[name]))
        self.running[name].add(run)
        return {"CUDA_VISIBLE_DEVICES": name} if len(self.names) > 1 else {}

    def give_back(self, run):
        for runs in self.running.values():
            runs.discard(run)


def last_words(lines):
    """The line that says what went wrong: the last one that speaks of an error or of sluice, else the last with letters."""
    spoken = [line.strip()[:200] for line in lines if re.search(r"[a-z]", line)]
    return next((line for line in reversed(spoken) if re.search(r"Error\b|^sluice", line)),
                spoken[-1] if spoken else "it printed nothing")


def run(command, log, limit_s, environment=None):
    if limit_s < 5:
        return {"failed": "not begun: the time was up"}
    job = Job(command, log, environment)
    try:
        return job.result(limit_s)
    except BaseException:
        job.end()
        raise


def run_on_each(count, command, log, limit_s, environment=None):
    """The program on each of so many GPUs at once, by itself on each: the first one's result with their mean tokens/s and median
    step, and those of each."""
    if count == 1 or limit_s < 5:
        return run(command, log, limit_s, environment)
    gpus = Gpus(count)
    jobs = []
    try:
        for gpu in range(count):
            jobs.append(Job(command, log.with_suffix(f".{gpu}.log"), {**(environment or {}), **gpus.take(gpu)}))
        results = [job.result(limit_s) for job in jobs]
    finally:
        for job in jobs:
            job.end()
    failed = next((result for result in results if "failed" in result), None)
    if failed:
        return failed
    speeds = [number(result, "tokens_per_s") for result in results]
    mean = {**results[0], "tokens_per_s": statistics.fmean(speeds), "tokens_per_s_by_gpu": speeds}
    if "step_s" in mean:
        mean["step_s"] = {**mean["step_s"], "median": statistics.fmean(number(result, "step_s.median") for result in results)}
    return mean


def number(result, key, scale=1.0):
    """The number of this key times `scale`; "a.b" goes into an object. None where the result has none."""
    value = result
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value * scale if isinstance(value, (int, float)) else None


def table(heads, rows):
    """Columns side by side; the first one to the left."""
    cells = [heads] + [["-" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
             for row in cells]
    return "\n".join(line.rstrip() for line in lines)


class Lines:
    """JSON lines in a file, and a sign of life on the terminal."""

    def __init__(self, file):
        self.file = pathlib.Path(file)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("")
        self.began = time.monotonic()

    def add(self, what, result):
        with open(self.file, "a", encoding="utf-8") as out:
            out.write(json.dumps({**what, **result}) + "\n")
        name = " ".join(str(value) for value in what.values())
        told = result.get("failed") or f"{number(result, 'tokens_per_s') or 0:.0f} tokens/s"
        print(f"[{time.monotonic() - self.began:5.0f} s] {name}: {told}", flush=True)
        return result
