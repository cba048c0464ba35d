#!/usr/bin/env bash
# mpirun for Sluice: what TERM, INT and HUP ask for reaches the ranks as USR1, so that they write a checkpoint and exit 75.
# (Open MPI's mpirun answers TERM by killing the ranks a second later and returns 1, MPICH's by killing them at once; both
# forward USR1 and return the ranks' code.)
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: launch/mpirun.sh [-n N] [--hostfile FILE] [MPIRUN OPTION...] -- PROGRAM [ARGUMENT...]

  -n N             ranks; default: on one host with GPUs one for each GPU, else mpirun's own (one for each core,
                   or for each slot of the hostfile or of the batch job)
  --hostfile FILE  hosts, one a line: NAME slots=COUNT
  PROGRAM          `sluice` means this tree's where PATH has none: bin/sluice when installed, else build/release/sluice

TERM, INT (Ctrl-C) and HUP let the ranks finish their step, write a checkpoint and exit 75; a second INT ends them at once.
Returns mpirun's code. OMP_NUM_THREADS, where not set, becomes cores / N on one host. mpirun is that of the MPI which this
tree's sluice was built with, Open MPI's or MPICH's, or PATH's where that is gone; MPIRUN names another.
Ranks on other hosts get PATH, LD_LIBRARY_PATH and every SLUICE_, NCCL_, OMP_, MKL_, HDF5_, CUDA_ and UCX_ variable of
this environment (Open MPI; MPICH hands all of it on). A host that falls silent ends the job after about 25 s:
OMPI_MCA_oob_tcp_keepalive_time, _intvl and _probes set other times. Hosts are reached by ssh, or what
OMPI_MCA_plm_rsh_agent says, which launch/remote_shell.sh runs to name a host that was lost.
TEXT
}

die() {
  echo "launch/mpirun.sh: $*" >&2
  exit 2
}

ranks="" hostfile="" passed=()
while [ $# -gt 0 ] && [ "$1" != "--" ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    -n | -np) [ $# -ge 2 ] || die "$1 needs a number of ranks"; ranks=$2; shift 2 ;;
    --hostfile) [ $# -ge 2 ] || die "--hostfile needs a file"; hostfile=$2; shift 2 ;;
    *) passed+=("$1"); shift ;;
  esac
done
[ $# -ge 2 ] || { usage >&2; exit 2; }
shift
[[ "$ranks" =~ ^([1-9][0-9]*)?$ ]] || die "-n $ranks: the number of ranks is a whole number, at least 1"
[ -z "$hostfile" ] || [ -r "$hostfile" ] || die "--hostfile $hostfile: cannot be read"

tree=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
# The launcher of the MPI that sluice was built with, as CMake recorded it: another's would start N jobs of one rank each.
recorded_launcher() {
  local record path
  for record in "$tree/launch/mpiexec.path" "$tree/build/release/mpiexec.path"; do
    [ -r "$record" ] || continue
    path=$(cat "$record")
    [[ "$path" == /* ]] || path=$tree/$path
    [ -x "$path" ] && { echo "$path"; return; }
  done
  echo mpirun
}
mpirun=${MPIRUN:-$(recorded_launcher)}
command -v "$mpirun" >/dev/null || die "$mpirun is not installed (Debian: apt-get install openmpi-bin)"
program=$1
shift
if [ "$program" = sluice ] && ! command -v sluice >/dev/null; then
  program=$tree/bin/sluice
  [ -x "$program" ] || program=$tree/build/release/sluice
  [ -x "$program" ] || die "$program is not built yet (launch/check builds it)"
fi

# GPUs that a rank on this host would see, 0 where there are none.
visible_gpus() {
  local visible=${CUDA_VISIBLE_DEVICES-all}
  [ "$visible" != "" ] || { echo 0; return; }
  if [ "$visible" != all ]; then
    awk -F, '{ print NF }' <<<"$visible"
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true
  else
    echo 0
  fi
}

# Whether mpirun has hosts from elsewhere: its own options, or a batch system.
hosts_given() {
  [ -z "${SLURM_JOB_ID:-}${PBS_NODEFILE:-}${LSB_HOSTS:-}${PE_HOSTFILE:-}" ] || return 0
  [[ " ${passed[*]} " =~ \ -?-(H|host|hostfile|machinefile|default-hostfile|rankfile|rf)\  ]]
}

several_hosts=false
if [ -n "$hostfile" ] || hosts_given; then several_hosts=true; fi
if [ -z "$ranks" ] && ! $several_hosts; then
  gpus=$(visible_gpus)
  [ "$gpus" -eq 0 ] || ranks=$gpus
fi

options=() separator=() scratch=""
[ -z "$ranks" ] || options+=(-n "$ranks")
cores=$(env -u OMP_NUM_THREADS nproc)  # nproc would answer with OMP_NUM_THREADS
if [ -z "$hostfile" ] && [ -n "$ranks" ]; then
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > ranks ? cores / ranks : 1))}
  if [ "$ranks" -gt "$cores" ]; then
    echo "launch/mpirun.sh: $ranks ranks share $cores cores: right, but slow" >&2
  fi
fi
# Open MPI gives the ranks terminals of its own: they are told what this one writes to.
if [ -z "${SLUICE_PROGRESS:-}" ]; then
  if [ -t 1 ]; then export SLUICE_PROGRESS=place; else export SLUICE_PROGRESS=lines; fi
fi
# Open MPI starts ranks of other hosts with those hosts' environment, and what -x names.
pass_environment() {
  local name
  while read -r name; do
    case $name in
      PATH | LD_LIBRARY_PATH | SLUICE_* | NCCL_* | OMP_* | MKL_* | HDF5_* | CUDA_* | UCX_*) ;;
      *) continue ;;
    esac
    [[ " ${passed[*]} " == *" -x $name"[\ =]* ]] || options+=(-x "$name")  # naming one twice is a fault there
  done < <(compgen -e)
}

# An Open MPI of its own folder (a module, a home directory) is looked for in that folder on the other hosts too. Of the
# system's it would do so by itself, called by its whole path, and put /usr/lib in front of all libraries there.
find_beside_mpirun() {
  local folder
  folder=$(dirname "$(dirname "$(command -v "$mpirun")")")
  case $folder in / | /usr | /usr/local | .) options+=(--noprefix) ;; /*) options+=(--prefix "$folder") ;; esac
}

# Other hosts are reached through remote_shell.sh, which runs what is set for that, the first of the list that is here. Batch
# systems whose remote shell Open MPI finds by itself, Open MPI 5 (another name, untested) and paths that its list cannot hold
# are left alone; `--mca plm_rsh_agent` goes first.
name_lost_hosts() {
  local shells shell
  local wrapper=$tree/launch/remote_shell.sh
  if [[ "$version" != *" 4."* || "$wrapper" == *[[:space:]:]* || ! -x "$wrapper" ]]; then return; fi
  shells=$("$(dirname "$(command -v "$mpirun")")/ompi_info" --parsable --param plm rsh --level 9 2>/dev/null |
    sed -n 's/^mca:plm:rsh:param:plm_rsh_agent:value://p' | tr -d '"') || true
  shells=${shells:-${OMPI_MCA_plm_rsh_agent:-ssh : rsh}}
  if [ "${shells// /}" = ssh:rsh ] && [ -n "${PE_HOSTFILE:-}${LOADL_STEP_ID:-}" ]; then return; fi
  while IFS= read -r -d : shell; do
    read -r shell <<<"$shell"
    command -v "${shell%% *}" >/dev/null || continue
    export OMPI_MCA_plm_rsh_agent="$wrapper $shell"
    return
  done <<<"$shells:"
}

version=$("$mpirun" --version 2>&1)
open_mpi="Open MPI|OpenRTE|PRRTE"  # as mpirun, as mpiexec, and since Open MPI 5
nodes=(/sys/devices/system/node/node[0-9]*)
by_numa=no
[ ${#nodes[@]} -le 1 ] || [ "${ranks:-$cores}" -gt "$cores" ] || by_numa=yes
if [[ "$version" =~ $open_mpi ]]; then
  separator=(--)
  [ -z "$hostfile" ] || options+=(--hostfile "$hostfile")
  # By default each of two ranks is bound to one core, and its threads (operators, loader) with it. Unbound, or bound
  # to a NUMA node, the system keeps threads apart; each rank takes its share of the cores (train.threads).
  if [ $by_numa = yes ]; then
    options+=(--map-by numa --bind-to numa:overload-allowed)
  else
    options+=(--bind-to none)
  fi
  if $several_hosts; then
    pass_environment
    find_beside_mpirun
    name_lost_hosts
    # The system's own times let the ranks wait two hours for a host that lost its power.
    export OMPI_MCA_oob_tcp_keepalive_time=${OMPI_MCA_oob_tcp_keepalive_time:-10}
    export OMPI_MCA_oob_tcp_keepalive_intvl=${OMPI_MCA_oob_tcp_keepalive_intvl:-5}
    export OMPI_MCA_oob_tcp_keepalive_probes=${OMPI_MCA_oob_tcp_keepalive_probes:-3}
  fi
  [ -n "$hostfile" ] || options+=(--oversubscribe)
  [ "$(id -u)" -ne 0 ] || options+=(--allow-run-as-root)
elif [[ "$version" == *HYDRA* ]]; then
  # MPICH: the environment goes to all hosts by itself, ranks may outnumber cores, and nothing is bound unless asked for.
  [ $by_numa = no ] || options+=(-bind-to numa)
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  if [ -n "$hostfile" ]; then
    sed -E 's/^[[:space:]]*([^#[:space:]]+)[[:space:]]+slots=([0-9]+).*/\1:\2/' "$hostfile" >"$scratch/hosts"
    options+=(-f "$scratch/hosts")
  fi
  # After a signal MPICH's launcher (seen with 4.0.2) returns 0 now and then, whatever the ranks returned: those of this host
  # leave their code here. The shell gets the signal beside its program, and is to outlive it.
  mkdir "$scratch/codes"
  separator=(bash -c 'trap : USR1; "$@"; code=$?; [ $code -eq 0 ] || echo $code 2>/dev/null >"$0/$PMI_RANK"; exit $code'
             "$scratch/codes")
  # It dies of a broken pipe where ranks end before they were given their standard input (4.0.2). Ranks inherit this: a
  # write to a closed pipe is an error to them, not their end.
  trap '' PIPE
elif [ -n "$hostfile" ]; then
  options+=(--hostfile "$hostfile")
fi

# Job control gives mpirun a process group of its own: a terminal's Ctrl-C would else reach it directly.
[ ! -t 0 ] || exec </dev/null
set -m
"$mpirun" "${options[@]}" "${passed[@]}" "${separator[@]}" "$program" "$@" &
job=$!

signalled=0 interrupts=0
forward() {
  signalled=1
  kill -s "$1" "$job" 2>/dev/null || true
}
trap 'forward USR1' TERM HUP USR1
trap 'interrupts=$((interrupts + 1)); [ $interrupts -lt 2 ] && forward USR1 || forward TERM' INT

# A trap cuts `wait` short: wait again until it returns by itself.
while :; do
  signalled=0
  code=0
  wait "$job" || code=$?
  [ $signalled -eq 1 ] || break
done
if [ $code -eq 0 ] && [ -n "$scratch" ]; then
  code=$(cat "$scratch"/codes/* 2>/dev/null | sort -n | tail -n 1) || true
fi
exit "${code:-0}"
