#!/usr/bin/env bash
# labml.sh TEXT [--ranks N] ...: labml's experiment, three seeds; see --help. Needs python3 and sluice, no torch.
exec "${PYTHON:-python3}" "$(cd "$(dirname "$0")" && pwd)/labml.py" labml "$@"
