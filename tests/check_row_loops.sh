#!/usr/bin/env bash
# check_row_loops.sh LIBRARY: the row loops that are compiled for one instruction set (trainer/kernels/host_rows_avx*.cpp) define
# no inline function of anybody else's: the linker would keep one copy for the whole program, and an older processor run it.
set -euo pipefail
symbols=$(nm -A -C --defined-only "$1" | grep 'host_rows_avx') || { echo "no row loops for x86 in $1"; exit 77; }
shared=$(grep -E ' [WVuw] ' <<<"$symbols") || { echo "$(grep -c . <<<"$symbols") symbols, none of them shared"; exit 0; }
echo "shared with other sources:"
echo "$shared"
exit 1
