# Sourced by the batch scripts of this folder, and part of those that `sluice submit` writes. Bash.
#
#   sluice_job RUN LAUNCHER...    runs the launcher (srun ... or mpirun ..., with `sluice train` behind it) and lets the
#                                 job go on in another one when its time is up; RUN is the run's directory
#
# sluice_requeue=yes|no   before the call: whether the site lets a job be requeued (default yes; where that fails, and with
#                         no, a successor that waits for this job's end is submitted)
#
# What ends a run early, and what follows:
#   USR1, before the time limit (--signal)   checkpoint, exit 75: the job is requeued, or its successor submitted
#   TERM, preemption or `scontrol requeue`   checkpoint where time is left; Slurm itself has requeued the job
#   TERM, scancel or the time limit itself   checkpoint where time is left; nothing: the same sbatch goes on by hand
#   anything else                            the job ends with the launcher's exit code

sluice_arguments=("$@")  # the script's: a successor gets them too

sluice_say() { printf '%s job %s: %s\n' "$(date '+%F %T')" "${SLURM_JOB_ID:-none}" "$*"; }

# The newest checkpoint's name: what tells whether this job brought the run forward.
sluice_newest() { readlink "$1/checkpoints/latest" 2>/dev/null || echo none; }

sluice_successor() {
  local element=()
  [ -z "${SLURM_ARRAY_TASK_ID:-}" ] || element=(--array="$SLURM_ARRAY_TASK_ID")
  # $0 is Slurm's own copy of this script
  sbatch --parsable --job-name="$SLURM_JOB_NAME" --dependency="afterany:$SLURM_JOB_ID" "${element[@]}" "$0" "${sluice_arguments[@]}"
}

sluice_go_on() {
  local successor
  if [ "${sluice_requeue:-yes}" = yes ]; then
    sluice_say "stopped before its time limit: requeued"
    scontrol requeue "$SLURM_JOB_ID" && return
    sluice_say "this job cannot be requeued: a successor instead"
  fi
  if successor=$(sluice_successor); then
    sluice_say "stopped before its time limit: job $successor goes on after it"
  else
    sluice_say "stopped before its time limit, and no successor could be submitted: submit the same script again"
  fi
}

sluice_job() {
  local run=$1 child="" code signalled early=no ended=no before
  shift
  export SLUICE_PROGRESS=${SLUICE_PROGRESS:-lines}
  # since Slurm 22.05 srun does not take it over from sbatch
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  before=$(sluice_newest "$run")
  sluice_say "start ${SLURM_RESTART_COUNT:-0} on ${SLURM_JOB_NODELIST:-this machine}, from checkpoint $before: $*"
  # With --signal=USR1@S srun's tasks have it already and this shell does not get it; with B: this shell alone does.
  trap 'signalled=1; if [ -n "$child" ]; then kill -s USR1 "$child" 2>/dev/null || true; else early=yes; fi' USR1
  # Slurm sends TERM to every process of the job: passed on, it would be a second one, which ends a rank at once.
  trap 'signalled=1; ended=yes' TERM
  "$@" &
  child=$!
  [ $early = no ] || kill -s USR1 "$child" 2>/dev/null || true  # once: a second one would end a rank at once
  while :; do  # a trap cuts `wait` short
    signalled=0 code=0
    wait "$child" || code=$?
    [ $signalled -eq 1 ] || break
  done
  sluice_say "the launcher ended with exit code $code, at checkpoint $(sluice_newest "$run")"
  if [ $code -eq 75 ] && [ $ended = no ]; then
    if [ "$(sluice_newest "$run")" != "$before" ]; then
      sluice_go_on
    else
      sluice_say "no step was done since its start: not again, or it would go on like this; ask for more time"
    fi
  fi
  exit $code
}
