#!/usr/bin/env bash
# two_gpus.sh [--batches 64,16] ...: weak scaling on the GPUs of this host; see --help. PYTHON: an interpreter that has torch.
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$here/../../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python3; }
exec "$PYTHON" "$here/two_gpus.py" "$@"
