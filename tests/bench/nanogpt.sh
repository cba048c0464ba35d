#!/usr/bin/env bash
# nanogpt.sh TEXT [--ranks N] ...: nanoGPT's shakespeare-char settings, three seeds; see --help. Needs python3 and sluice, no torch.
exec "${PYTHON:-python3}" "$(cd "$(dirname "$0")" && pwd)/labml.py" nanogpt "$@"
