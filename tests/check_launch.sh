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

for script in launch/setup launch/check launch/quickstart launch/*.sh launch/slurm/* .ci/run tests/*.sh tests/slurm/*.sh \
              tests/install/*.sh; do
  expect "$script parses" 0 "" bash -n "$script"
done
for script in setup check quickstart slurm/test-cluster; do
  expect "$script --help" 0 "launch/$script" bash "launch/$script" --help
  expect "$script refuses an unknown flag" 2 "--frobnicate" bash "launch/$script" --frobnicate
done
for script in setup check; do
  expect "$script refuses an unknown device" 2 "auto, cpu, cuda" bash "launch/$script" --device tpu
done
expect "set-up refuses an unknown MPI" 2 "openmpi, mpich" bash launch/setup --mpi lam
for flag in --mpi --prefix --torch --bundle --offline; do
  expect "set-up wants a value of $flag" 2 "$flag needs a value" bash launch/setup $flag
done
expect "set-up refuses a bundle that is not there" 2 "no/such.tar: no such file" bash launch/setup --offline no/such.tar
expect "set-up refuses both ends of a bundle" 2 "give one of them" bash launch/setup --bundle a.tar --offline b.tar
expect "set-up refuses a LibTorch that is none" 2 "no lib/libtorch_cpu.so" bash launch/setup --torch /tmp
expect "set-up refuses a prefix that cannot be written to" 2 "cannot be written to" bash launch/setup --prefix /proc/sluice
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

# With --prefix nothing is installed either: what is there is named, what is not is said at once, with the fix.
rm "$bare"/{apt-get,dpkg-query}
for tool in mkdir realpath tr head sed wc paste basename; do ln -sf "$(command -v $tool)" "$bare/$tool"; done
mkdir -p "$bare/site/include/boost"
touch "$bare/site/include/hdf5.h" "$bare/site/include/boost/program_options.hpp"
expect "--prefix finds what a module names" 2 "$bare/site/include/hdf5.h" env -i PATH="$bare" CMAKE_PREFIX_PATH="$bare/site" \
  bash launch/setup --device cpu --prefix "$bare/prefix"
expect "--prefix says all that is missing" 2 "missing: C++20 compiler" env -i PATH="$bare" \
  CMAKE_PREFIX_PATH="$bare/site" bash launch/setup --device cpu --prefix "$bare/prefix"
expect "--prefix does not unpack Open MPI" 2 "--mpi mpich" env -i PATH="$bare" bash launch/setup --device cpu --mpi openmpi \
  --prefix "$bare/prefix"

# Bundles that are none, or are damaged.
bundle=$bare/bundle
mkdir -p "$bundle/wheels"
echo wheel >"$bundle/wheels/a.whl"
echo "system none" >"$bundle/PLATFORM"
tar -cf "$bare/none.tar" -C "$bundle" .
expect "a tar that is no bundle is refused" 2 "not a bundle" bash launch/setup --device cpu --prefix "$bare/prefix" --offline "$bare/none.tar"
(cd "$bundle" && sha256sum PLATFORM wheels/a.whl >SHA256SUMS)
echo changed >"$bundle/wheels/a.whl"
tar -cf "$bare/damaged.tar" -C "$bundle" .
expect "a damaged bundle is refused" 2 "damaged" bash launch/setup --device cpu --prefix "$bare/prefix" --offline "$bare/damaged.tar"
echo wheel >"$bundle/wheels/a.whl"
echo wheel >"$bundle/wheels/b.whl"
tar -cf "$bare/more.tar" -C "$bundle" .
expect "a bundle with something added is refused" 2 "does not name" bash launch/setup --device cpu --prefix "$bare/prefix" --offline "$bare/more.tar"

echo "$faults faults"
[ $faults -eq 0 ]
