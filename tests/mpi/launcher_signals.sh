#!/usr/bin/env bash
# launcher_signals.sh LAUNCHER PROGRAM SIGNAL: SIGNAL to the launcher lets both ranks save and exit 75.
set -u
log=$(mktemp)
trap 'rm -f "$log"' EXIT
set -m  # else a background job is started with INT ignored
timeout -k 5 60 "$1" -n 2 -- "$2" >"$log" 2>&1 &
guard=$!
set +m
for _ in $(seq 300); do
  grep -q ready "$log" && break
  sleep 0.1
done
launcher=$(pgrep -P "$guard")
kill -s "$3" "$launcher"
wait "$guard"
code=$?
cat "$log"
echo "exit code $code"
[ $code -eq 75 ] && [ "$(grep -c saved "$log")" -eq 2 ]
