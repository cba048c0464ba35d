#!/usr/bin/env bash
# family_corpus.sh DIR: the corpus of family.sh in DIR/corpus. About 20 MB of English technical prose: the .rst files of Debian's
# linux-doc-6.1 without their translations, a document each, cut into 4000 SentencePiece pieces; 5 % of the documents are for
# validation. The text is a function of the package's version, which DIR/text.txt keeps: another one may be had as
# LINUX_DOC=FILE.deb. Needs apt-get and dpkg-deb (no root), and sluice (SLUICE, in PATH, or build/release/sluice).
set -euo pipefail

[ $# = 1 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
sluice=$(realpath "${SLUICE:-$(command -v sluice || echo "$root/build/release/sluice")}")
package=linux-doc-6.1
mkdir -p "$1"
dir=$(realpath "$1")

if [ ! -e "$dir/corpus/corpus.json" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  if [ -z "${LINUX_DOC:-}" ]; then
    (cd "$work" && apt-get -q download "$package" 2>apt.log || { cat apt.log >&2; exit 1; })
    LINUX_DOC=$(echo "$work/$package"_*.deb)
  fi
  mkdir "$work/text"
  dpkg-deb --fsys-tarfile "$LINUX_DOC" | tar -x -C "$work/text" --strip-components=6 --wildcards \
    --exclude='*/translations/*' "./usr/share/doc/$package/Documentation/*.rst.gz"
  find "$work/text" -name '*.gz' -exec gunzip {} +
  (cd "$work/text" && find . -name '*.rst' -print0 | LC_ALL=C sort -z | xargs -0 cat) >"$work/all.txt"
  {
    dpkg-deb --field "$LINUX_DOC" Package Version
    echo "Files: $(find "$work/text" -name '*.rst' | wc -l)"
    echo "Bytes: $(stat -c %s "$work/all.txt")"
    echo "SHA-256: $(sha256sum <"$work/all.txt" | cut -d' ' -f1)"
  } >"$dir/text.txt"
  rm -rf "$dir/corpus"
  "$sluice" prepare --input "$work/text" --tokenizer train-sentencepiece:4000 --split documents --valid-fraction 0.05 \
    --out "$dir/corpus"
fi
cat "$dir/text.txt"
du -sh "$dir/corpus"
