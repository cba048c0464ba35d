#!/usr/bin/env bash
# linux_source.sh DIR: the corpus of linux_source.ini in DIR/corpus, about 400 MB of C and English: the sources and documents of
# Debian's linux-source-6.1 in the folders named below, a document each, cut into 4096 SentencePiece pieces; 1 % of the documents
# are for validation. Of its bytes 60 % are drivers, 16 % the kernel itself, 7 % sound, 1 % documents, and 16 % generated register
# headers, which pack best: they and the many drivers of like devices are why so much fits. Files of a megabyte, tables all, stay out.
# DIR/text.tar.xz (43 MiB) is that text packed: where it is there already nothing else is needed, so that a machine without
# network gets it alone, or with DIR/tokenizer.model, which one core otherwise learns from 4 MiB of it. DIR/text.txt says which
# version it is, and its digest. Needs apt-get, dpkg-deb (no root), xz and 6 GB of memory for the first part, sluice (SLUICE, in
# PATH, or build/release/sluice) for the second.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,9s/^# //p' "$0" >&2; exit 2; }
root=$(cd "$(dirname "$0")/../.." && pwd)
package=linux-source-6.1
folders=(Documentation/{admin-guide,core-api,filesystems,process} block fs/{btrfs,ext4,xfs} include/{linux,trace} init ipc kernel
  lib mm net/{bridge,core,ipv4,ipv6} sound/soc drivers/gpu/drm/{amd,i915,msm,nouveau,radeon} drivers/misc/habanalabs
  drivers/net/ethernet/{broadcom,chelsio,intel,marvell,mellanox,qlogic,sfc} drivers/net/wireless
  drivers/{clk,comedi,crypto,hwmon,iio,interconnect,media,mfd,phy,pinctrl,power,regulator})
mkdir -p "$1"
dir=$(realpath "$1")
work=$(mktemp -d "$dir/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Test vectors are neither text nor do they pack. A dictionary as large as xz's block finds what alike files share wherever in it
# they are; blocks are packed and unpacked side by side.
pack_text() {
  (cd "$work" && apt-get -q download "$package" 2>apt.log || { cat apt.log >&2; exit 1; })
  local deb
  deb=$(echo "$work/$package"_*.deb)
  dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$package.tar.xz" | tar -xJ -C "$work"
  (cd "$work/$package" && find "${folders[@]}" -name testmgr.h -prune -o -type f -size -1000k \
    \( -name '*.[chS]' -o -name '*.rst' \) -print | LC_ALL=C sort >../files)
  {
    dpkg-deb --field "$deb" Package Version
    echo "Files: $(wc -l <"$work/files")"
    echo "Bytes: $(cd "$work/$package" && xargs -d '\n' cat <../files | wc -c)"
    echo "SHA-256: $(cd "$work/$package" && xargs -d '\n' cat <../files | sha256sum | cut -d' ' -f1)"
  } >"$dir/text.txt"
  tar -C "$work/$package" --format=ustar --mode=644 --mtime=@0 --owner=0 --group=0 --numeric-owner -c -T "$work/files" |
    xz -T4 --block-size=112MiB --lzma2=preset=9,dict=112MiB,lc=4,pb=0 >"$work/text.tar.xz"
  mv "$work/text.tar.xz" "$dir/text.tar.xz"
}

[ -e "$dir/text.tar.xz" ] || pack_text
if [ ! -e "$dir/corpus/corpus.json" ]; then
  sluice=$(realpath "${SLUICE:-$(command -v sluice || echo "$root/build/release/sluice")}")
  rm -rf "$work/text" "$dir/corpus"
  mkdir "$work/text"
  xz -T0 -dc "$dir/text.tar.xz" | tar -x -C "$work/text"
  pieces=train-sentencepiece:4096
  [ ! -e "$dir/tokenizer.model" ] || pieces=sentencepiece:$dir/tokenizer.model
  "$sluice" prepare --input "$work/text" --tokenizer "$pieces" --split documents --valid-fraction 0.01 --out "$dir/corpus"
  cp "$dir/corpus/tokenizer.model" "$dir/"
fi
[ ! -e "$dir/text.txt" ] || cat "$dir/text.txt"
ls -l "$dir/text.tar.xz"
du -sh "$dir/corpus"
