#!/usr/bin/env python3
"""Whole training jobs of the real program, under the real launcher.

  train_jobs.py --sluice PROGRAM --case NAME [--seed N] [--kills N]

Standard library only. A case makes its own text, corpus and runs in a temporary directory, and fails by an
assertion that says what was found. The seed of random moments is printed.
"""
import argparse
import array
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SHARE_GPU = REPOSITORY / "tests" / "support" / "share_gpu.sh"
LAUNCHER = REPOSITORY / "launch" / "mpirun.sh"
STEPS = 20
GLOBAL_BATCH = 8


def words(count, seed):
    """Text of made-up words, a pure function of the seed."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choice("abcdefghij") for _ in range(draw.randint(2, 7))) for _ in range(60)]
    lines = [" ".join(draw.choice(vocabulary) for _ in range(draw.randint(4, 12))) for _ in range(count)]
    return "\n".join(lines) + "\n"


class Place:
    """A temporary directory with a corpus, and the program to run in it."""

    def __init__(self, sluice, directory):
        self.sluice = str(Path(sluice).resolve())
        self.directory = Path(directory)
        self.wrapper = []  # between the launcher and the program
        self.corpus = self.directory / "corpus"
        (self.directory / "text.txt").write_text(words(300, seed=7))
        self.check([self.sluice, "prepare", "--input", str(self.directory / "text.txt"), "--tokenizer", "bytes",
                    "--out", str(self.corpus), "--shard-tokens", "1000", "--valid-fraction", "0.05"])

    def check(self, command, code=0, timeout=120):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
        assert done.returncode == code, f"exit {done.returncode}, expected {code}: {' '.join(command)}\n{done.stdout}"
        return done.stdout

    def command(self, name, ranks, *settings):
        """sluice train into run `name`; later settings win."""
        chosen = {
            "run.dir": self.directory / name, "data.corpus": self.corpus, "train.steps": STEPS,
            "train.global_batch": GLOBAL_BATCH, "train.micro_batch": 2, "train.threads": 1, "train.device": "cpu",
            "train.ledger": self.directory / f"{name}.ledger", "model.layers": 2, "model.d_model": 16,
            "model.d_ffn": 32, "model.seq_len": 16, "optim.lr": 1e-2, "optim.warmup_steps": 4, "eval.every": 10,
            "checkpoint.every": 5, "parallel.bucket_mb": 0.004,
        }
        chosen.update(setting.split("=", 1) for setting in settings)
        program = [self.sluice, "train"] + [f"--{key}={value}" for key, value in chosen.items()]
        return program if ranks == 0 else [str(LAUNCHER), "-n", str(ranks), "--"] + self.wrapper + program

    def train(self, name, ranks, *settings, code=0):
        return self.check(self.command(name, ranks, *settings), code)

    def tensors(self, name):
        """Weights and the optimizer's state."""
        return read_safetensors(self.directory / name / "checkpoints" / "latest" / "model.safetensors")

    def weights(self, name):
        return {tensor: values for tensor, values in self.tensors(name).items() if "_moment." not in tensor}

    def lines(self, name, kind):
        metrics = [json.loads(line) for line in (self.directory / name / "metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in metrics if line["kind"] == kind]
        assert len(steps) == len(set(steps)), f"a step stands twice in {name}: {steps}"
        return [line for line in metrics if line["kind"] == kind]

    def losses(self, name, kind="train"):
        return [line["loss"] for line in self.lines(name, kind)]

    def check_ledger(self, name, steps):
        text = (self.directory / f"{name}.ledger").read_text()
        ledger = [json.loads(line) for line in text.splitlines()]
        expected = [{"step": i + 1, "first": i * GLOBAL_BATCH, "count": GLOBAL_BATCH} for i in range(steps)]
        assert ledger == expected, f"ledger of {name}:\n{text}"


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        begin, end = entry["data_offsets"]
        tensors[name] = array.array("f" if entry["dtype"] == "F32" else "d", data[8 + length + begin:8 + length + end])
    return tensors


def relative(found, expected):
    difference = math.sqrt(sum((a - b) ** 2 for a, b in zip(found, expected)))
    return difference / math.sqrt(sum(b * b for b in expected))


def same_model(place, found, expected, tensor_limit, arena_limit):
    a, b = place.weights(found), place.weights(expected)
    assert a.keys() == b.keys()
    for name in b:
        error = relative(a[name], b[name])
        assert error <= tensor_limit, f"{found} against {expected}: {name} differs by {error}"
    arena = relative([x for name in b for x in a[name]], [x for name in b for x in b[name]])
    assert arena <= arena_limit, f"{found} against {expected}: all parameters differ by {arena}"
    for mine, other in zip(place.losses(found), place.losses(expected), strict=True):
        assert abs(mine - other) <= arena_limit * other, f"{found} against {expected}: loss {mine}, {other}"


def case_worlds(place, _):
    """1 rank x 4 micro-batches == 2 x 2 == 4 x 1, and uneven slices at 3 ranks; the evaluation too."""
    for precision, tensor_limit, arena_limit in (("fp64", 1e-10, 1e-10), ("fp32", 1e-4, 1e-6)):
        settings = (f"train.precision={precision}", "train.steps=5", "eval.every=5")
        place.train(f"{precision}-1", 1, *settings)
        for ranks in (2, 3, 4):
            place.train(f"{precision}-{ranks}", ranks, *settings)
            same_model(place, f"{precision}-{ranks}", f"{precision}-1", tensor_limit, arena_limit)


def case_odd(place, _):
    """More ranks than divide the batch, and as many as it has samples."""
    settings = ("train.steps=3", "optim.warmup_steps=1", "eval.every=0", "train.precision=fp64")
    place.train("one", 0, *settings)
    for ranks in (7, 8):
        place.train(f"many-{ranks}", ranks, *settings)
        same_model(place, f"many-{ranks}", "one", 1e-10, 1e-10)
    output = place.check(place.command("nine", 9, *settings), code=2)
    assert "8 sequences for 9 ranks" in output, output


def wait_for_step(place, name, step, process):
    metrics = place.directory / name / "metrics.jsonl"
    while process.poll() is None:
        if metrics.exists() and metrics.read_text().count('"train"') >= step:
            return
        time.sleep(0.01)
    assert False, f"{name} ended with {process.returncode} before step {step}"


def stop(place, name, ranks, step, number, *settings):
    """Sends `number` to the launcher (ranks > 0) or the program when `step` is done; expects exit 75."""
    process = subprocess.Popen(place.command(name, ranks, *settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for_step(place, name, step, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, f"exit {process.returncode} after {number!r}\n{output}"


def case_signals(place, _):
    """Stopped through the launcher by each signal and resumed: the bits of a run that went straight through."""
    steps = ("train.steps=300", "checkpoint.every=0", "eval.every=100")
    place.train("straight", 2, *steps)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        name = number.name
        stop(place, name, 2, 20, number, *steps)
        place.train(name, 2, *steps)
        assert place.tensors(name) == place.tensors("straight"), f"weights or state differ after {name}"
        assert place.losses(name) == place.losses("straight"), f"losses differ after {name}"
        assert place.losses(name, "valid") == place.losses("straight", "valid")
        place.check_ledger(name, 300)


def case_resize(place, _):
    """2 -> 1 -> 4 ranks: every sample once, the same curve."""
    steps = ("train.steps=300", "checkpoint.every=50", "eval.every=0", "train.precision=fp64")
    stop(place, "resized", 2, 60, signal.SIGTERM, *steps)
    stop(place, "resized", 0, 140, signal.SIGTERM, *steps)
    place.train("resized", 4, *steps)
    place.check_ledger("resized", 300)
    place.train("straight", 0, *steps)
    same_model(place, "resized", "straight", 1e-6, 1e-8)


def case_zero(place, _):
    """State in slices: the bits of the state that is whole; stopped on 2 ranks it goes on whole on 1, and in slices on 3."""
    place.train("whole", 2)
    place.train("slices", 2, "parallel.zero=1")
    assert place.tensors("slices") == place.tensors("whole")
    assert place.losses("slices") == place.losses("whole")
    steps = ("train.steps=200", "checkpoint.every=50", "eval.every=0", "train.precision=fp64")
    place.train("straight", 0, *steps)
    for name, ranks, zero in (("to-one", 0, 0), ("to-three", 3, 1)):
        stop(place, name, 2, 60, signal.SIGTERM, "parallel.zero=1", *steps)
        place.train(name, ranks, f"parallel.zero={zero}", *steps)
        place.check_ledger(name, 200)
        same_model(place, name, "straight", 1e-6, 1e-8)


def case_gpu_zero(place, _):
    """On two GPU ranks state in slices has the bits of whole state; its checkpoint goes on on one GPU, on two, and on CPU ranks."""
    listed = shutil.which("nvidia-smi") and subprocess.run(["nvidia-smi", "-L"], stdout=subprocess.PIPE, text=True)
    gpus = listed.stdout.count("UUID: GPU-") if listed else 0
    if gpus == 0:
        sys.exit(77)
    place.wrapper = [str(SHARE_GPU)] if gpus == 1 else []
    settings = ("train.device=cuda", "train.steps=40", "checkpoint.every=20", "checkpoint.keep=9", "eval.every=0")
    place.train("whole", 2, *settings)
    place.train("slices", 2, *settings, "parallel.zero=1")
    assert place.tensors("slices") == place.tensors("whole")
    assert place.losses("slices") == place.losses("whole")
    for name, ranks, device, zero in (("two", 2, "cuda", 1), ("one", 1, "cuda", 0), ("cpu", 2, "cpu", 1)):
        shutil.copytree(place.directory / "slices", place.directory / name, symlinks=True)
        shutil.rmtree(place.directory / name / "checkpoints" / "step-000040")
        (place.directory / name / "checkpoints" / "latest").unlink()
        output = place.train(name, ranks, *settings, f"train.device={device}", f"parallel.zero={zero}")
        assert "resuming after step 20" in output, output
        assert ("device now cpu" in output) == (device == "cpu") and ("ranks now 1" in output) == (ranks == 1), output
        if name == "two":
            assert place.tensors(name) == place.tensors("slices"), "other bits after resuming on equal ground"
        worst = max(abs(a - b) / b for a, b in zip(place.losses(name), place.losses("slices"), strict=True))
        print(f"{name}: largest relative difference of a loss {worst:.2e}", flush=True)
        assert worst <= 1e-4


def case_kill(place, options):
    """kill -9 at random moments while a checkpoint is written at every step: always resumes, nothing lost or doubled."""
    draw = random.Random(options.seed)
    settings = ("train.steps=200", "checkpoint.every=1", "checkpoint.keep=2", "eval.every=0")
    kills = 0
    while kills < options.kills:
        process = subprocess.Popen(place.command("killed", 0, *settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True)
        try:
            process.wait(timeout=draw.uniform(0.2, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        output, _ = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), f"exit {process.returncode} after {kills} kills\n{output}"
        assert "passed over" not in output, f"a half-written checkpoint was visible\n{output}"
        if process.returncode == 0:  # done before all kills: the rest on a new run
            check_killed(place, settings)
            shutil.rmtree(place.directory / "killed")
            (place.directory / "killed.ledger").unlink()
    place.train("killed", 0, *settings)
    check_killed(place, settings)


def check_killed(place, settings):
    place.check_ledger("killed", 200)
    assert len(place.lines("killed", "train")) == 200
    if not (place.directory / "straight").exists():
        place.train("straight", 0, *settings[:1], "checkpoint.every=0", "eval.every=0")
    assert place.tensors("killed") == place.tensors("straight"), "other weights than a run that was never killed"


def case_fault(place, _):
    """A rank that meets damaged data ends the whole job with its reason, within 30 s."""
    shard = place.corpus / "train-00003.h5"
    data = bytearray(shard.read_bytes())
    text = place.directory.joinpath("text.txt").read_bytes()
    tokens = struct.pack("<8H", *text[3100:3108])
    at = data.find(tokens)
    assert at > 0, "the shard holds the text as 16-bit ids"
    data[at] ^= 1
    shard.write_bytes(data)
    start = time.monotonic()
    process = subprocess.run(place.command("faulty", 3, "train.steps=1000000", "optim.schedule=constant"), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True, timeout=60)
    assert process.returncode not in (0, 75), process.stdout
    assert time.monotonic() - start < 30, "the job outlived its rank"
    assert "train-00003.h5" in process.stdout and "rank" in process.stdout, process.stdout


def case_shared(place, _):
    """Ranks that share sequences train as one does, in each mode; stopped at sp 2 a run goes on at sp 1 and sp 4."""
    settings = ("train.precision=fp64", "train.steps=5", "eval.every=5", "model.seq_len=37")
    place.train("one", 1, *settings)
    for mode in ("alltoall", "rowshard", "ring"):
        shared = (*settings, f"parallel.sp_mode={mode}")
        for sp, ranks, zero in ((2, 2, 0), (2, 4, 1), (3, 3, 1), (4, 4, 0)):
            name = f"{mode}-{sp}-{ranks}"
            place.train(name, ranks, *shared, f"parallel.sp={sp}", f"parallel.zero={zero}")
            same_model(place, name, "one", 1e-10, 1e-10)
            for found, expected in zip(place.losses(name, "valid"), place.losses("one", "valid"), strict=True):
                assert abs(found - expected) <= 1e-10 * expected, f"{name}: valid loss {found}, {expected}"
    steps = ("train.steps=200", "checkpoint.every=50", "eval.every=0", "train.precision=fp64")
    place.train("straight", 0, *steps)
    for mode, sp, ranks, other in (("ring", 1, 1, "auto"), ("rowshard", 4, 4, "ring"), ("alltoall", 4, 4, "rowshard")):
        name = f"{mode}-to-{sp}-{other}"
        stop(place, name, 2, 60, signal.SIGTERM, "parallel.sp=2", f"parallel.sp_mode={mode}", *steps)
        place.train(name, ranks, f"parallel.sp={sp}", f"parallel.sp_mode={other}", *steps)
        place.check_ledger(name, 200)
        same_model(place, name, "straight", 1e-6, 1e-8)
    output = place.check(place.command("odd", 3, *steps, "parallel.sp=2"), code=2)
    assert "parallel.sp: 2 ranks for each sequence do not divide 3 ranks" in output, output


def case_refusals(place, _):
    """What all ranks agree on is told once: a loss that is not finite (exit 1), settings that cannot be (exit 2)."""
    wild = ("optim.lr=1e4", "optim.clip=0", "optim.warmup_steps=0", "model.init_std=100", "train.steps=500", "train.max_skipped=0")
    output = place.check(place.command("wild", 3, *wild), code=1)
    assert output.count("1 steps in a row skipped") == 1 and "on samples" in output, output
    place.train("run", 2, "train.steps=5")
    output = place.check(place.command("run", 2, "train.steps=5", "model.layers=3"), code=2)
    assert output.count("model.layers") == 1, output
    mixed = place.command("mixed", 1)
    place.check(mixed + [":", "-n", "1"] + mixed[mixed.index("--") + 1:] + ["--optim.lr=0.5"], code=2)


def case_golden(place, options):
    """The losses of configs/experiments/tiny.ini are those of the golden file."""
    place.check([place.sluice, "train", "--config", str(REPOSITORY / "configs/experiments/tiny.ini"), f"--run.dir={place.directory / 'tiny'}",
                 f"--data.corpus={place.corpus}", f"--train.steps={STEPS}"])
    found = {"train": place.losses("tiny"), "valid": place.losses("tiny", "valid")}
    golden = REPOSITORY / "tests" / "golden" / "tiny_losses.json"
    if options.write_golden:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(json.dumps(found, indent=1) + "\n")
    expected = json.loads(golden.read_text())
    assert len(found["train"]) == STEPS and found["train"][-1] < found["train"][0], "it learned nothing"
    for kind in ("train", "valid"):
        for step, (mine, want) in enumerate(zip(found[kind], expected[kind], strict=True)):
            assert abs(mine - want) <= 1e-4 * want, f"{kind} loss {step}: {mine}, golden {want}"


def case_fixture(place, _):
    """Runs and checkpoints of every format version are read, and go on, in every later version."""
    fixtures = REPOSITORY / "tests" / "fixtures"
    for version in ("v1", "v2"):
        fixture, run = fixtures / version / "run", place.directory / version / "run"
        shutil.copytree(fixture, run, symlinks=True)
        shutil.copytree(fixtures / "v1" / "corpus-chars", run.parent / "corpus-chars")
        place.check([place.sluice, "verify", str(run)])
        shutil.rmtree(run / "checkpoints" / "step-000010")
        (run / "checkpoints" / "latest").unlink()
        done = subprocess.run([place.sluice, "train", "--config", "run/resolved.ini"], cwd=run.parent, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=60)
        assert done.returncode == 0 and "resuming after step 5" in done.stdout, done.stdout
        assert (run / "ledger.jsonl").read_text() == (fixture / "ledger.jsonl").read_text()
        for kind in ("train", "valid"):
            pairs = zip(place.losses(run, kind), place.losses(fixture, kind), strict=True)
            assert all(abs(mine - want) <= 1e-4 * want for mine, want in pairs), place.losses(run, kind)
        want, found = place.weights(fixture), place.weights(run)
        assert all(relative(found[name], want[name]) <= 1e-3 for name in want)


def case_safetensors(place, _):
    """Checkpoints open with the safetensors package, names, shapes and values."""
    from safetensors.numpy import load_file  # of the tests' environment

    place.train("run", 0, "train.steps=5", "train.precision=fp64")
    found = load_file(place.directory / "run" / "checkpoints" / "latest" / "model.safetensors")
    expected = place.tensors("run")
    assert found.keys() == expected.keys()
    assert all(found[name].ravel().tolist() == list(expected[name]) for name in expected)
    assert found["first_moment.blocks.1.sgu.weight"].shape == (16, 16)


def main():
    cases = {name[5:]: function for name, function in globals().items() if name.startswith("case_")}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sluice", required=True)
    parser.add_argument("--case", required=True, choices=cases)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1000000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--write-golden", action="store_true", help="write tests/golden/tiny_losses.json anew")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sluice-jobs-") as directory:
        cases[options.case](Place(options.sluice, directory), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
