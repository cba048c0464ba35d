#!/usr/bin/env bash
# launch/remote_shell.sh SHELL [OPTION...] HOST COMMAND...
# What launch/mpirun.sh has Open MPI reach other hosts with: runs SHELL (ssh, or what the user has set) with all that follows,
# and says which host it was where that fails. Open MPI itself names a host that is lost only if the connection of its
# daemon ends before the remote shell does, else it guesses at a wrong set-up.
set -uo pipefail

command=("$@")
shift
# Open MPI would see to this were it to call ssh itself: the daemon needs no X11.
[ "$(basename "${command[0]}")" != ssh ] || command=("${command[0]}" -x "$@")

# The host is what follows ssh's options; others take fewer.
while getopts ':46AaB:b:CcD:E:e:F:fGgI:i:J:KkL:l:MmNnO:o:P:p:Q:qR:S:sTtVvW:w:XxYy' _; do :; done
host=${!OPTIND:-?}

"${command[@]}"
code=$?
if [ $code -ne 0 ]; then
  echo "launch/remote_shell.sh: host $host: ${command[0]} ended with status $code; the host, or its part of the job, is lost" \
       "or was never reached" >&2
fi
exit $code
