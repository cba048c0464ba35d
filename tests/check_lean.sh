#!/usr/bin/env bash
# check_lean.sh PROGRAM: a program of the lean flavour starts, and needs of LibTorch only libtorch_cpu and libc10 and
# nothing of CUDA (libtorch_cpu's own needs are not ours).
set -euo pipefail
program=$1
needed=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
echo "$needed"
if echo "$needed" | grep -E '^lib(torch(_cuda|_python)?|c10_cuda|nccl|cu(da|dart|blas|dnn|pti).*)\.so'; then
  echo "the lean flavour must not need these" >&2
  exit 1
fi
for library in libtorch_cpu.so libc10.so; do
  echo "$needed" | grep -qx "$library" || { echo "$program does not need $library: is it the real program?" >&2; exit 1; }
done
"$program" --version
