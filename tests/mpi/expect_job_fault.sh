#!/usr/bin/env bash
# expect_job_fault.sh PROGRAM FAULT TEXT SECONDS LAUNCHER...: the job of $RANKS ranks, three if unset, must end by itself within that many
# seconds, not with 0, and say TEXT. A program that ends with 77 asks to be skipped.
set -u
program=$1 fault=$2 text=$3 seconds=$4
shift 4
output=$(timeout -k 5 "$seconds" "$@" -n "${RANKS:-3}" "$program" "$fault" 2>&1)
code=$?
echo "$output"
echo "exit code $code"
[ $code -ne 77 ] || exit 77
if [ $code -eq 124 ] || [ $code -eq 137 ] && [[ "$fault" != kill* && "$fault" != vanish ]]; then echo "FAILED: the job did not end"; exit 1; fi
[ $code -ne 0 ] || { echo "FAILED: the job ended well"; exit 1; }
[[ "$output" == *"$text"* ]] || { echo "FAILED: nothing says '$text'"; exit 1; }
