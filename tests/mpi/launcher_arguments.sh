#!/usr/bin/env bash
# launcher_arguments.sh LAUNCHER: what launch/mpirun.sh refuses and passes on.
set -u
launcher=$1
faults=0
expect() {  # STATUS WORDS ARGUMENT...
  local status=$1 words=$2 got output
  shift 2
  output=$("$launcher" "$@" 2>&1 </dev/null)
  got=$?
  [ $got -eq "$status" ] && [[ $output == *"$words"* ]] && return
  faults=$((faults + 1))
  printf 'FAIL %s: exit code %d instead of %d, or no "%s" in:\n%s\n' "$*" $got "$status" "$words" "$output"
}
expect 0 "usage: launch/mpirun.sh" --help
expect 2 "usage: launch/mpirun.sh" -n 2
expect 2 "-n 0" -n 0 -- true
expect 2 "-n two" -n two -- true
expect 2 "no/such/file" --hostfile no/such/file -- true
expect 0 "" -n 2 -- true
expect 41 "" -n 1 -- bash -c 'exit 41'
expect 0 "one two|--three" -n 1 -- printf '%s|%s\n' "one two" --three
expect 0 "threads=7" -n 1 -- env OMP_NUM_THREADS=7 bash -c 'echo threads=$OMP_NUM_THREADS'
if "${MPIRUN:-mpirun}" --version 2>&1 | grep -qE "Open MPI|OpenRTE|PRRTE"; then
  expect 0 "999 ranks share" -n 999 --do-not-launch -- true
else
  expect 0 "99 ranks share" -n 99 -- true
fi
hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT
printf '# hosts\nlocalhost slots=2\n' >"$hosts"
expect 0 "$(printf 'here\nhere')" --hostfile "$hosts" -n 2 -- echo here
MPIRUN=no-such-mpirun expect 2 "no-such-mpirun is not installed" -- true
# Two ranks see every core that one sees, whatever Open MPI's own default would bind them to.
cores=$(env -u OMP_NUM_THREADS nproc)
expect 0 "cores=$cores" -n 2 -- bash -c 'echo cores=$(env -u OMP_NUM_THREADS nproc)'
# Without -n there is one rank for each GPU; nvidia-smi lists them, or CUDA_VISIBLE_DEVICES chooses.
tools=$(mktemp -d)
trap 'rm -r "$tools"' EXIT
printf '#!/bin/sh\necho "GPU 0: A (UUID: x)"\necho "GPU 1: A (UUID: y)"\necho "GPU 2: A (UUID: z)"\n' >"$tools/nvidia-smi"
chmod +x "$tools/nvidia-smi"
PATH=$tools:$PATH expect 0 "ranks=3" -- bash -c 'echo ranks=${OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}'
CUDA_VISIBLE_DEVICES=1,2 PATH=$tools:$PATH expect 0 "ranks=2" -- bash -c 'echo ranks=${OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}'
PATH=$tools:$PATH expect 0 "ranks=1" -n 1 -- bash -c 'echo ranks=${OMPI_COMM_WORLD_SIZE:-$PMI_SIZE}'
# Several hosts: an Open MPI of its own folder is looked for there on all of them; variables are named once each.
mkdir "$tools/bin"
printf '#!/bin/sh\n[ "$1" != --version ] || { echo "mpirun (Open MPI) 4.1"; exit; }
echo "[$*] alive=$OMPI_MCA_oob_tcp_keepalive_time by=$OMPI_MCA_plm_rsh_agent."\n' \
  >"$tools/bin/mpirun"
chmod +x "$tools/bin/mpirun"
export SLUICE_PROBE=1 MPIRUN=$tools/bin/mpirun OMP_NUM_THREADS=1
expect 0 "-x SLUICE_PROBE" -n 2 --host a,b -- true
expect 0 "--prefix $tools" -n 2 --host a,b -- true
expect 0 "alive=10" -n 2 --host a,b -- true
expect 0 "-x OMP_NUM_THREADS=3 -- true" -n 2 --host a,b -x OMP_NUM_THREADS=3 -- true
OMPI_MCA_oob_tcp_keepalive_time=60 expect 0 "alive=60" -n 2 --host a,b -- true
# Other hosts are reached through a shell that names the one that was lost.
names_host=$(dirname "$launcher")/remote_shell.sh
OMPI_MCA_plm_rsh_agent="no-such-shell : true -q" expect 0 "by=$names_host true -q." -n 2 --host a,b -- true
OMPI_MCA_plm_rsh_agent="no-such-shell" expect 0 "by=no-such-shell." -n 2 --host a,b -- true
[[ $("$names_host" false -p 22 node-z orted 2>&1) == *"host node-z: false ended with status 1;"* ]] ||
  { faults=1; echo "FAIL: the host is not named"; }
[[ -z $("$names_host" true node-z orted 2>&1) ]] || { faults=1; echo "FAIL: a host that ended well is named"; }
[[ $("$launcher" -n 2 --host a,b -x OMP_NUM_THREADS=3 -- true) != *"-x OMP_NUM_THREADS "* ]] || { faults=1; echo "FAIL: named twice"; }
[[ $("$launcher" -n 2 -- true) != *"-x "* ]] || { faults=1; echo "FAIL: -x on one host"; }
[ $faults -eq 0 ] && echo "no faults"
