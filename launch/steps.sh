# Sourced by the other scripts: steps that say their name and their seconds, with a bar and the time left for long ones.
# The output of a step goes to build/log; when the step fails its last lines are shown.

export LC_ALL=C.UTF-8  # the programs' messages are read here
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$root/build/log
steps_taken=""   # lines "seconds title", for steps_table

say() { printf '%s\n' "$*"; }
# stop TEXT: for what the user can put right; exit code 2 like sluice's own.
stop() { printf '%s\n' "$*" >&2; exit 2; }

_clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# _left START DONE TOTAL ELAPSED: the time left, from what was done since START; nothing before a twentieth is done.
_left() {
  [ $((($2 - $1) * 20)) -ge "$3" ] && _clock $(($4 * ($3 - $2) / ($2 - $1))) || true
}

# _bar TITLE DONE TOTAL LEFT NOTE: one line, drawn in place on a terminal.
_bar() {
  local width=24 filled=$(($2 * 24 / $3)) bar
  bar=$(printf '%*s' "$filled" '' | tr ' ' '#')$(printf '%*s' $((width - filled)) '' | tr ' ' '.')
  printf '\r\033[K   %-34s [%s] %3d %%%s%s' "$1" "$bar" $(($2 * 100 / $3)) "${4:+, $4 left}" "${5:+, $5}"
}

_finish() {
  local seconds=$2 mark=$3
  [ -t 1 ] && printf '\r\033[K'
  printf '%s %-34s %5s s\n' "$mark" "$1" "$seconds"
  steps_taken+="$seconds $1"$'\n'
}

# run_step TITLE PROGRESS COMMAND...: PROGRESS is a function that prints "done total" (whole numbers; nothing while it
# knows nothing) and perhaps a note, or "-". COMMAND must be a program, not a function: a signal to this script is passed
# on to it.
run_step() {
  local title=$1 progress=$2 log began=$SECONDS shown=$SECONDS every=20 start="" at total note left status=0
  shift 2
  mkdir -p "$logs"
  step_log=$logs/$(printf '%s' "$title" | tr -c 'a-zA-Z0-9\n' '-').log
  log=$step_log
  if [ -t 1 ]; then every=1; printf '   %s' "$title"; else printf '   %s ...\n' "$title"; fi
  "$@" >"$log" 2>&1 </dev/null &
  local child=$!
  trap 'kill -TERM '"$child"' 2>/dev/null; wait '"$child"'; printf "\nstopped\n"; exit 130' INT TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    [ "$progress" != - ] && [ $((SECONDS - shown)) -ge $every ] || continue
    shown=$SECONDS
    read -r at total note < <("$progress") || continue
    [ "${total:-0}" -gt 0 ] || continue
    [ "$at" -le "$total" ] || at=$total
    start=${start:-$at}
    left=$(_left "$start" "$at" "$total" $((SECONDS - began)))
    if [ -t 1 ]; then
      _bar "$title" "$at" "$total" "$left" "$note"
    elif [ -n "$left" ]; then
      printf '     %3d %%, about %s left%s\n' $((at * 100 / total)) "$left" "${note:+, $note}"
    fi
  done
  wait "$child" || status=$?
  trap - INT TERM
  if [ $status -ne 0 ]; then
    _finish "$title" $((SECONDS - began)) 'x '
    { tail -n 40 "$log"; say "--- '$title' failed with exit code $status; all of its output: ${log#"$root"/}"; } >&2
    return $status
  fi
  _finish "$title" $((SECONDS - began)) 'ok'
}

# Progress of a running ninja, from its own [12/80].
ninja_progress() { tail -c 4000 "$step_log" | tr '\r' '\n' | sed -n 's/^\[\([0-9]*\)\/\([0-9]*\)\].*/\1 \2/p' | tail -n 1; }

# The table of all steps so far.
steps_table() {
  printf '\n%8s  %s\n' seconds step
  printf '%s' "$steps_taken" | while read -r seconds title; do printf '%8s  %s\n' "$seconds" "$title"; done
}

# set_up_elsewhere: launch/setup --prefix was here. Its programs (gnuplot) then come last on PATH.
set_up_elsewhere() {
  [ -f "$root/build/setup.cmake" ] || return 1
  local packages
  packages=$(sed -n 's/^set(SLUICE_PACKAGES "\(.*\)" CACHE.*/\1/p' "$root/build/setup.cmake")
  PATH=$PATH${packages:+:$packages/tools/bin}
}

# has_toolkit: a CUDA toolkit that can compile is here.
has_toolkit() { command -v nvcc >/dev/null 2>&1 || [ -x "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" ]; }
