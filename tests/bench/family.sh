#!/usr/bin/env bash
# family.sh CORPUS [--tune] [--jobs N] ...: gMLP, aMLP and Transformer on the same tokens, two sizes, three seeds; see --help.
# Needs python3 and sluice, no torch.
exec "${PYTHON:-python3}" "$(cd "$(dirname "$0")" && pwd)/family.py" "$@"
