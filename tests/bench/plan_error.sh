#!/usr/bin/env bash
# plan_error.sh [ROUNDS] [STEPS]: step times that `sluice plan` predicts beside those that `sluice bench step` measures, on 1
# and 2 CPU ranks of one thread each. ROUNDS times (3), for each number of ranks, sluice bench calibrate measures
# configs/models/small.ini with micro-batches of 8; then each case below is predicted from that file and measured, STEPS
# steps (20). Printed are medians over the rounds, and the error in percent. Only on a machine that does nothing else do
# the figures mean anything.
# SLUICE names the program (build/release/sluice), MPIEXEC the launcher (launch/mpirun.sh), PYTHON an interpreter.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
rounds=${1:-3} steps=${2:-20}
sluice=${SLUICE:-$root/build/release/sluice} mpiexec=${MPIEXEC:-$root/launch/mpirun.sh} python=${PYTHON:-python3}
model=$root/configs/models/small.ini
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

# name | settings; the global batch is that of one rank
cases=(
  "as calibrated|--train.micro_batch=8 --train.global_batch=8"
  "two micro-batches|--train.micro_batch=8 --train.global_batch=16"
  "micro-batch 16|--train.micro_batch=16 --train.global_batch=16"
  "micro-batch 2|--train.micro_batch=2 --train.global_batch=2"
  "8 layers|--train.micro_batch=8 --train.global_batch=8 --model.layers=8"
  "d_model 256|--train.micro_batch=8 --train.global_batch=8 --model.d_model=256 --model.d_ffn=1536"
  "256 positions|--train.micro_batch=8 --train.global_batch=8 --model.seq_len=256"
  "Transformer|--train.micro_batch=8 --train.global_batch=8 --model.kind=transformer --model.d_ffn=512 --model.heads=4"
)

on_ranks() {  # RANKS WORD...
  local ranks=$1
  shift
  if [ "$ranks" = 1 ]; then "$@"; else "$mpiexec" -n "$ranks" -- "$@"; fi
}

for ((round = 1; round <= rounds; ++round)); do
  for ranks in 1 2; do
    on_ranks "$ranks" "$sluice" bench calibrate --out "$folder/cluster.ini" --steps "$steps" --config "$model" \
      --train.threads=1 >/dev/null
    for case in "${cases[@]}"; do
      read -ra words <<<"${case#*|}"
      micro=${words[0]#*=} batch=$((${words[1]#*=} * ranks))
      words[1]=--train.global_batch=$batch
      predicted=$("$sluice" plan "$model" --cluster "$folder/cluster.ini" --gpus "$ranks" --sp 1 --zero 0 \
        --recompute none --micro "$micro" --json "${words[@]}" --train.threads=1)
      measured=$(on_ranks "$ranks" "$sluice" bench step --vocabulary 257 --steps "$steps" --json --config "$model" \
        "${words[@]}" --train.threads=1)
      printf '%s\t%s\t%s\t%s\n' "$ranks" "${case%%|*}" "$predicted" "$measured" >>"$folder/results"
    done
  done
done
"$python" - "$folder/results" <<'END'
import json, statistics, sys

cells = {}
for line in open(sys.argv[1]):
    ranks, name, predicted, measured = line.rstrip("\n").split("\t")
    first = json.loads(predicted)["ranks"][0]["candidates"][0]["step_s"]
    cells.setdefault((ranks, name), []).append((first, json.loads(measured)["step_s"]["median"]))
print(f"{'ranks':>5}  {'case':20}{'predicted ms':>14}{'measured ms':>13}{'error %':>9}   of {len(next(iter(cells.values())))} rounds")
for (ranks, name), pairs in cells.items():
    errors = sorted(100 * (p / m - 1) for p, m in pairs)
    p, m = (statistics.median(one[i] for one in pairs) for i in (0, 1))
    print(f"{ranks:>5}  {name:20}{1e3 * p:>14.2f}{1e3 * m:>13.2f}{statistics.median(errors):>9.1f}"
          f"   round by round {errors[0]:.1f} ... {errors[-1]:.1f}")
END
