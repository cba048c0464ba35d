#!/usr/bin/env bash
# compare.sh [SIZE...] [--hold] ...: sluice beside PyTorch on this GPU; see --help. PYTHON: an interpreter that has torch.
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${PYTHON:-}" ] || { PYTHON=$here/../../.venv/bin/python; [ -x "$PYTHON" ] || PYTHON=python3; }
exec "$PYTHON" "$here/compare.py" "$@"
