#!/usr/bin/env bash
# The launch scripts: they parse, refuse what they do not know with exit code 2, and set-up without root or sudo installs
# nothing but prints the very line to run.
set -uo pipefail
cd "$(dirname "$0")/.."
faults=0
expect() {  # WHAT STATUS WORDS COMMAND...: COMMAND must end with STATUS and say WORDS
  local what=$1 status=$2 words=$3 got output
  shift 3
  output=$("$@" 2>&1 </dev/null); got=$?
  if [ $got -eq "$status" ] && [[ $output == *"$words"* ]]; then
    echo "ok   $what"
  else
    faults=$((faults + 1))
    printf 'FAIL %s: exit code %d instead of %d, or no "%s" in:\n%s\n' "$what" $got "$status" "$words" "$output"
  fi
}

for script in launch/setup launch/check launch/quickstart launch/*.sh launch/slurm/* .ci/run tests/*.sh tests/slurm/*.sh; do
  expect "$script parses" 0 "" bash -n "$script"
done
for script in setup check quickstart slurm/test-cluster; do
  expect "$script --help" 0 "launch/$script" bash "launch/$script" --help
  expect "$script refuses an unknown flag" 2 "--frobnicate" bash "launch/$script" --frobnicate
done
for script in setup check; do
  expect "$script refuses an unknown device" 2 "auto, cpu, cuda" bash "launch/$script" --device tpu
done
expect "quickstart names a text that is not there" 2 "no/such/text" bash launch/quickstart no/such/text
expect "test-cluster names the actions that there are" 2 "start, stop, status" bash launch/slurm/test-cluster begin
expect "test-cluster is not running in a directory that is not there" 3 "not running" bash launch/slurm/test-cluster status /no/such/directory
for template in launch/slurm/*.sbatch; do
  expect "$template asks for a signal and keeps its log" 0 "" grep -qzE -- '--signal=(B:)?USR1@.*--requeue.*--open-mode=append.*sluice_job ' "$template"
done

# A machine with none of the packages, as somebody who is not root and has no sudo.
bare=$(mktemp -d)
trap 'rm -r "$bare"' EXIT
for tool in bash dirname uname cat sed wc; do ln -s "$(command -v $tool)" "$bare/$tool"; done
printf '#!/bin/sh\necho 65534\n' >"$bare/id"
printf '#!/bin/sh\nexit 1\n' >"$bare/dpkg-query"
printf '#!/bin/sh\necho "apt-get was called"; exit 1\n' >"$bare/apt-get"
chmod +x "$bare"/{id,dpkg-query,apt-get}
expect "set-up without root says what to install" 2 \
  "apt-get install -y --no-install-recommends g++ python3 python3-venv libopenmpi-dev" \
  env -i PATH="$bare" bash launch/setup --device cpu --tests

echo "$faults faults"
[ $faults -eq 0 ]
