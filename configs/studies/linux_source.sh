#!/usr/bin/env bash
# linux_source.sh DIR: the corpus of linux_source.ini in DIR/corpus, about 270 MB of C and English: the sources and documents of
# Debian's linux-source-6.1 in the folders named below, a document each, cut into 4096 SentencePiece pieces; 2 % of the documents
# are for validation. DIR/text.tar.xz (at most 45 MiB) is that text packed: where it is there already nothing else is needed, so
# that a machine without network gets it alone. DIR/text.txt says which version it is, and its digest. Needs apt-get, dpkg-deb
# (no root) and xz for the first part, sluice (SLUICE, in PATH, or build/release/sluice) for the second.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
package=linux-source-6.1
folders=(Documentation arch/x86 arch/arm64 block crypto fs include init io_uring ipc kernel lib mm net security virt)
for part in acpi ata base block bus char cpufreq crypto dma gpio hid i2c md mmc mtd nvme pci power regulator rtc spi target \
            thermal tty usb vfio vhost virtio watchdog; do folders+=("drivers/$part"); done
mkdir -p "$1"
dir=$(realpath "$1")
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Test vectors are neither text nor do they pack.
pack_text() {
  (cd "$work" && apt-get -q download "$package" 2>apt.log || { cat apt.log >&2; exit 1; })
  local deb
  deb=$(echo "$work/$package"_*.deb)
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$package.tar.xz" | tar -xJ -C "$work"
  (cd "$work/$package" && find "${folders[@]}" \( -path Documentation/translations -o -name testmgr.h \) -prune -o \
    -type f \( -name '*.[chS]' -o -name '*.rst' \) -print | LC_ALL=C sort >../files)
  {
    dpkg-deb --field "$deb" Package Version
    echo "Files: $(wc -l <"$work/files")"
    echo "SHA-256: $(cd "$work/$package" && xargs -d '\n' cat <../files | sha256sum | cut -d' ' -f1)"
  } >"$dir/text.txt"
  tar -C "$work/$package" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c -T "$work/files" |
    xz -T0 -6 >"$work/text.tar.xz"
  mv "$work/text.tar.xz" "$dir/text.tar.xz"
}

[ -e "$dir/text.tar.xz" ] || pack_text
if [ ! -e "$dir/corpus/corpus.json" ]; then
  sluice=$(realpath "${SLUICE:-$(command -v sluice || echo "$root/build/release/sluice")}")
  rm -rf "$work/text" "$dir/corpus"
  mkdir "$work/text"
  tar -xJf "$dir/text.tar.xz" -C "$work/text"
  # Pieces are learned from a tenth: of all of it SentencePiece would learn for minutes on one core.
  "$sluice" prepare --input "$work/text"/{block,init,ipc,kernel,mm} --tokenizer train-sentencepiece:4096 --out "$work/pieces"
  "$sluice" prepare --input "$work/text" --tokenizer "sentencepiece:$work/pieces/tokenizer.model" --split documents \
    --valid-fraction 0.02 --out "$dir/corpus"
fi
[ ! -e "$dir/text.txt" ] || cat "$dir/text.txt"
ls -l "$dir/text.tar.xz"
du -sh "$dir/corpus"
