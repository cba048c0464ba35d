#!/usr/bin/env bash
# mpich.sh TORCH: sluice and its tests built with MPICH, which launch/setup unpacks without root, and all unit and MPI tests
# run, those that need a GPU excepted. Skipped (77) without apt-get or network.
set -euo pipefail
torch=$1
. "$(dirname "$0")/copy_source.sh"
command -v apt-get >/dev/null || skip "needs apt-get"
scratch=$(mktemp -d /var/tmp/sluice-mpich.XXXXXX)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/source"
cp -r "$source/launch" "$scratch/source/"
"$scratch/source/launch/setup" --device cpu --tests --mpi mpich --prefix "$scratch/prefix" --torch "$torch" \
  || skip "launch/setup did not get MPICH: no network?"
export PATH=$scratch/source/.venv/bin:$PATH
build=$scratch/build
export CCACHE_BASEDIR=$scratch  # its name is another each time
cmake -S "$source" -B "$build" -G Ninja -C "$scratch/source/build/setup.cmake" -DCMAKE_BUILD_TYPE=Release -DSLUICE_DEVICE=cpu
cmake --build "$build" --parallel "$(nproc)"
grep -q MPICH <("$build/sluice" --version) || { echo "FAILED: not built with MPICH"; "$build/sluice" --version; exit 1; }
ctest --test-dir "$build" --output-on-failure --no-tests=error -L '^(unit|mpi)$' -LE '^(gpu|slurm|long)$' -j "$(nproc)"
