#!/usr/bin/env bash
# sequence.sh [--cpu] ...: what ranks that share sequences (parallel.sp) gain and cost on this host; see --help. PYTHON: an interpreter.
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$here/../../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python3; }
exec "$PYTHON" "$here/sequence.py" "$@"
