#!/usr/bin/env bash
# expect_job_fault.sh MPIRUN PROGRAM FAULT TEXT [SECONDS]: the job must end by itself within 30 s or that many, not with
# 0, and say TEXT. A program that ends with 77 asks to be skipped.
set -u
output=$(timeout -k 5 "${5:-30}" "$1" -n 3 --oversubscribe --bind-to none "$2" "$3" 2>&1)
code=$?
echo "$output"
echo "exit code $code"
[ $code -ne 77 ] || exit 77
if [ $code -eq 124 ] || [ $code -eq 137 ] && [[ "$3" != kill && "$3" != vanish ]]; then echo "FAILED: the job did not end"; exit 1; fi
[ $code -ne 0 ] || { echo "FAILED: the job ended well"; exit 1; }
[[ "$output" == *"$4"* ]] || { echo "FAILED: nothing says '$4'"; exit 1; }
