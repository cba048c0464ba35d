"""A long run on two ranks, stopped and resumed: memory stays flat, files stay few, no step is lost.

    soak.py SLUICE
"""
import json, os, pathlib, re, signal, subprocess, sys, tempfile, time

STEPS = 6000
REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def resident_kib(launcher):
    """Resident memory of each rank below the launcher, by process."""
    found = {}
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue  # ended meanwhile
        if re.search(r"^Name:\tsluice$", text, re.M) and os.getpgid(int(status.parent.name)) != os.getpgid(0):
            rss = re.search(r"^VmRSS:\s+(\d+)", text, re.M)
            if rss and is_below(int(status.parent.name), launcher):
                found[int(status.parent.name)] = int(rss.group(1))
    return found


def is_below(process, ancestor):
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(re.search(r"^PPid:\t(\d+)", pathlib.Path(f"/proc/{process}/status").read_text(), re.M).group(1))
        except OSError:
            return False
    return False


def watch(command, stop_after):
    """Runs the command; sends one USR1 after `stop_after` seconds. Returns the exit code and memory seen over time."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    seen, start, stopped = {}, time.monotonic(), False
    while process.poll() is None:
        for rank, kib in resident_kib(process.pid).items():
            seen.setdefault(rank, []).append(kib)
        if stop_after and not stopped and time.monotonic() - start > stop_after:
            process.send_signal(signal.SIGUSR1)
            stopped = True
        time.sleep(0.5)
    return process.returncode, seen


def check_flat(seen):
    for rank, series in seen.items():
        settled = series[len(series) // 3:]
        if len(settled) < 10:
            continue
        growth = settled[-1] - settled[0]
        print(f"rank process {rank}: {settled[0]} -> {settled[-1]} KiB over {len(settled)} looks", flush=True)
        assert growth < 0.05 * settled[0] + 4096, f"resident memory grew by {growth} KiB"


def main():
    sluice = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="sluice-soak-") as directory:
        place = pathlib.Path(directory)
        subprocess.run([sluice, "prepare", "--input", str(REPOSITORY / "trainer"), "--out", str(place / "corpus"),
                        "--shard-tokens", "20000"], check=True, stderr=subprocess.DEVNULL)
        command = [str(REPOSITORY / "launch/mpirun.sh"), "-n", "2", "--", sluice, "train", "--config",
                   str(REPOSITORY / "configs/experiments/tiny.ini"), f"--run.dir={place / 'run'}",
                   f"--data.corpus={place / 'corpus'}", f"--train.steps={STEPS}", "--checkpoint.every=50",
                   "--eval.every=100", f"--train.ledger={place / 'ledger.jsonl'}", "--parallel.check_replicas_every=100"]
        code, seen = watch(command, stop_after=20)
        check_flat(seen)
        while code == 75:
            code, seen = watch(command, stop_after=None)
            check_flat(seen)
        assert code == 0, f"exit {code}"
        steps = [json.loads(line)["step"] for line in (place / "ledger.jsonl").read_text().splitlines()]
        assert steps == list(range(1, STEPS + 1)), "the ledger has every step once"
        files = [path for path in (place / "run").rglob("*") if path.is_file()]
        assert len(files) < 40, f"{len(files)} files in the run directory"


main()
