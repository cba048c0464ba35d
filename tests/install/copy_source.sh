# Sourced: copy_source DIR puts this source tree there, as it is now, without what git ignores.
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
copy_source() {
  mkdir -p "$1"
  if git -C "$source" rev-parse --git-dir >/dev/null 2>&1; then
    (cd "$source" && git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null | tar -cf - -T -) | tar -xf - -C "$1"
  else
    tar -cf - -C "$source" --exclude ./build --exclude ./.venv . | tar -xf - -C "$1"
  fi
}
skip() { echo "skipped: $*"; exit 77; }
