#!/usr/bin/env bash
# launch/slurm/job.sh against stubs of sbatch and scontrol: what it decides for each end of the launcher.
set -uo pipefail
job_sh=$(cd "$(dirname "$0")/../.." && pwd)/launch/slurm/job.sh
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
mkdir -p "$work/bin"
faults=0

# scontrol fails where SCONTROL is set so; sbatch prints a number. Both note their words.
printf '#!/bin/sh\necho "scontrol $*" >>"%s/calls"; exit "${SCONTROL:-0}"\n' "$work" >"$work/bin/scontrol"
printf '#!/bin/sh\necho "sbatch $*" >>"%s/calls"; echo 43; exit "${SBATCH:-0}"\n' "$work" >"$work/bin/sbatch"
# The launcher: a checkpoint if PROGRESS is set, the code CODE; with SIGNAL it first signals the script, and says what it gets.
cat >"$work/bin/launcher" <<'STUB'
#!/usr/bin/env bash
trap 'echo "launcher got USR1"; got=1' USR1
trap 'echo "launcher got TERM"' TERM
[ "${SIGNAL:-}" != TERM ] || kill -s TERM $PPID
[ "${SIGNAL:-}" != USR1 ] || { kill -s USR1 $PPID; for _ in {1..200}; do [ -n "${got:-}" ] || sleep 0.05; done; }
[ -z "${PROGRESS:-}" ] || ln -sfn step-000020 "$RUN/checkpoints/latest"
exit "${CODE:-0}"
STUB
cat >"$work/script" <<SCRIPT
sluice_requeue=\${REQUEUE:-yes}
. "$job_sh"
sluice_job "\$RUN" launcher "\$@"
SCRIPT
chmod +x "$work"/bin/*

# expect WHAT CODE CALLS WORDS VARIABLES...: the script ends with CODE, calls CALLS ("" none) and says WORDS.
expect() {
  local what=$1 code=$2 calls=$3 words=$4 output got made
  shift 4
  rm -rf "$work/run" "$work/calls"
  mkdir -p "$work/run/checkpoints"
  ln -s step-000010 "$work/run/checkpoints/latest"
  output=$(env PATH="$work/bin:$PATH" RUN="$work/run" SLURM_JOB_ID=42 SLURM_JOB_NAME=name "$@" bash "$work/script" --train.steps=9 2>&1)
  got=$?
  made=$(cat "$work/calls" 2>/dev/null | sed "s|$work/||g" | paste -sd ';')
  if [ $got -eq "$code" ] && [ "$made" = "$calls" ] && [[ $output == *"$words"* ]]; then
    echo "ok   $what"
  else
    faults=$((faults + 1))
    printf 'FAIL %s: exit code %d, expected %d; calls "%s", expected "%s"; no "%s" in:\n%s\n' \
      "$what" $got "$code" "$made" "$calls" "$words" "$output"
  fi
}

successor="sbatch --parsable --job-name=name --dependency=afterany:42"
expect "a run that is done" 0 "" "exit code 0, at checkpoint step-000020" PROGRESS=1
expect "a fault" 1 "" "exit code 1" CODE=1 PROGRESS=1
expect "a stop is followed by a requeue" 75 "scontrol requeue 42" "requeued" CODE=75 PROGRESS=1
expect "a requeue that is refused, by a successor" 75 "scontrol requeue 42;$successor script --train.steps=9" \
  "job 43 goes on after it" CODE=75 PROGRESS=1 SCONTROL=1
expect "a site without requeue" 75 "$successor script --train.steps=9" "job 43 goes on" CODE=75 PROGRESS=1 REQUEUE=no
expect "an element of an array" 75 "$successor --array=3 script --train.steps=9" "job 43 goes on" \
  CODE=75 PROGRESS=1 REQUEUE=no SLURM_ARRAY_TASK_ID=3
expect "nobody may submit from a job" 75 "$successor script --train.steps=9" "submit the same script again" \
  CODE=75 PROGRESS=1 REQUEUE=no SBATCH=1
expect "a stop without a step" 75 "" "no step was done" CODE=75
expect "USR1 to the script reaches the launcher" 75 "scontrol requeue 42" "launcher got USR1" CODE=75 PROGRESS=1 SIGNAL=USR1
expect "TERM: Slurm ends the job, nothing follows" 75 "" "exit code 75" CODE=75 PROGRESS=1 SIGNAL=TERM
expect "the words of the launcher are written down" 0 "" "start 2 on node7, from checkpoint step-000010: launcher --train.steps=9" \
  SLURM_RESTART_COUNT=2 SLURM_JOB_NODELIST=node7

echo "$faults faults"
[ $faults -eq 0 ]
