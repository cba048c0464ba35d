#!/usr/bin/env bash
# compare_cpu.sh [ROUNDS] [STEPS]: one training step of sluice beside eager PyTorch (peer_torch.py), one thread each, the same
# size: 4 layers, d_model 128, d_ffn 512, 128 positions, 256 ids, 8 sequences, fp32. The two take turns, ROUNDS times (5), of
# STEPS steps each (20); medians over the rounds and their ratio are printed, by wall clock and by CPU time. On a machine that
# others use too, only the CPU-time ratio means much.
# PYTHON names the interpreter that has torch (.venv/bin/python), SLUICE the program (build/release/sluice).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
rounds=${1:-5} steps=${2:-20}
python=${PYTHON:-$root/.venv/bin/python}
sluice=${SLUICE:-$root/build/release/sluice}
results=$(mktemp)
trap 'rm -f "$results"' EXIT
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
words=(--json --steps "$steps" --vocabulary 256 --model.layers=4 --model.d_model=128 --model.d_ffn=512 --model.seq_len=128
  --train.global_batch=8 --train.micro_batch=8 --train.threads=1)
for ((round = 1; round <= rounds; ++round)); do
  "$python" "$root/tests/bench/peer_torch.py" --device cpu "${words[@]}" | sed 's/^/peer /' >>"$results"
  "$sluice" bench step "${words[@]}" | sed 's/^/sluice /' >>"$results"
done
"$python" - "$results" <<'END'
import json, statistics, sys

runs = {"peer": [], "sluice": []}
for line in open(sys.argv[1]):
    who, text = line.split(" ", 1)
    runs[who].append(json.loads(text))
print(f"{'':22}{'peer':>10}{'sluice':>10}{'ratio':>8}   of {len(runs['peer'])} rounds")
for key, name in (("tokens_per_s", "tokens/s, wall clock"), ("tokens_per_cpu_s", "tokens/s of CPU time")):
    middle = {who: statistics.median(run[key] for run in some) for who, some in runs.items()}
    each = sorted(s[key] / p[key] for s, p in zip(runs["sluice"], runs["peer"]))
    print(f"{name:22}{middle['peer']:>10.0f}{middle['sluice']:>10.0f}{middle['sluice'] / middle['peer']:>8.3f}"
          f"   round by round {each[0]:.3f} ... {each[-1]:.3f}")
END
