#!/usr/bin/env bash
# residual.sh TEXT [DIR] [WORDS...]: whether narrower types cost loss. A gMLP of 48 layers and few channels trains 300 steps on TEXT's
# characters with seeds 1, 2, 3: in bf16 with the residual stream in fp32 and in bf16, and in fp8. Prints each run's last validation
# loss (nats a character) and each column's mean. Needs a GPU. WORDS go to sluice train. Runs that are there go on or are left alone.
set -euo pipefail
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
text=$1 dir=${2:-$root/runs/residual}
shift $(($# < 2 ? $# : 2))
sluice=${SLUICE:-$(command -v sluice || echo "$root/build/release/sluice")}
mkdir -p "$dir"
[ -e "$dir/corpus/corpus.json" ] ||
  "$sluice" prepare --input "$text" --tokenizer chars --valid-fraction 0.1 --out "$dir/corpus" >"$dir/prepare.log"

train() { # NAME SEED WORDS...
  local run=$dir/$1-$2
  "$sluice" train --data.corpus="$dir/corpus" --run.dir="$run" --run.seed="$2" --data.window=random-offset \
    --model.layers=48 --model.d_model=128 --model.d_ffn=768 --model.seq_len=128 --train.device=cuda \
    --train.steps=300 --train.global_batch=64 --train.micro_batch=64 --optim.lr=1e-3 --optim.warmup_steps=30 \
    --optim.schedule=cosine --eval.every=100 --checkpoint.every=0 --checkpoint.keep=1 "${@:3}" >"$run.log" 2>&1 ||
    { echo "$run: failed, $(tail -3 "$run.log")" >&2; exit 1; }
}
for seed in 1 2 3; do
  train bf16 $seed --train.precision=bf16 "$@"
  train bf16_residual $seed --train.precision=bf16 --train.residual_dtype=bf16 "$@"
  train fp8 $seed --train.precision=fp8 "$@"
done
python3 - "$dir" <<'PYTHON'
import json, pathlib, statistics, sys

def last(run):
    losses = [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
              if line["kind"] == "valid"]
    return losses[-1]

print(f"{'':14} {'seed 1':>9} {'seed 2':>9} {'seed 3':>9} {'mean':>9}")
for name in ("bf16", "bf16_residual", "fp8"):
    losses = [last(pathlib.Path(sys.argv[1]) / f"{name}-{seed}") for seed in (1, 2, 3)]
    print(f"{name:14} " + " ".join(f"{loss:9.5f}" for loss in [*losses, statistics.mean(losses)]))
PYTHON
