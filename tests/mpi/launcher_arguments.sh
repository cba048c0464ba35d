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
if "${MPIRUN:-mpirun}" --version 2>&1 | grep -q "Open MPI"; then
  expect 0 "999 ranks share" -n 999 --do-not-launch -- true
else
  expect 0 "99 ranks share" -n 99 -- true
fi
hosts=$(mktemp)
trap 'rm -f "$hosts"' EXIT
printf '# hosts\nlocalhost slots=2\n' >"$hosts"
expect 0 "$(printf 'here\nhere')" --hostfile "$hosts" -n 2 -- echo here
MPIRUN=no-such-mpirun expect 2 "no-such-mpirun is not installed" -- true
[ $faults -eq 0 ] && echo "no faults"
