#!/usr/bin/env bash
# Own sources are as clang-format 14 (Debian 12's) writes them; names those that are not, and the command that mends them.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing: run launch/setup --tests" >&2; exit 1; }
mapfile -t sources < <(git ls-files --cached --others --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' | sort -u)
[ ${#sources[@]} -gt 0 ] || { echo "no sources found" >&2; exit 1; }
existing=()
for file in "${sources[@]}"; do [ ! -f "$file" ] || existing+=("$file"); done
wrong=$(clang-format-14 --dry-run -Werror "${existing[@]}" 2>&1 | sed -n 's/:[0-9]*:[0-9]*: error.*//p' | sort -u) || true
[ -z "$wrong" ] || { echo "not formatted; run:"; echo "clang-format-14 -i" $wrong; exit 1; }
echo "${#existing[@]} files are formatted"
