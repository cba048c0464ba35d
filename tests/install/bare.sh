#!/usr/bin/env bash
# bare.sh user|offline|ubuntu: on a fresh, minimal Debian 12 (no compiler, no Python, no MPI), as an ordinary user without sudo,
# sluice is set up, built, trained with on two ranks and installed; then the installed tree is moved, sources and .venv are
# removed, and it trains again. offline: the same without network, from a bundle that is made here. ubuntu: on Ubuntu 24.04,
# and on one rank: its MPICH (4.2.0) has no launcher that it understands, which sluice has to say (docs/install.md).
# Needs root and debootstrap, and for Ubuntu its archive's keyring: without any of them it is skipped (77). BARE_KEEP=1 keeps
# the tree.
set -euo pipefail
way=$1
. "$(dirname "$0")/copy_source.sh"
[ "$(id -u)" -eq 0 ] || skip "needs root, to make a tree of Debian"
command -v debootstrap >/dev/null || skip "needs debootstrap (apt-get install debootstrap)"
# This machine's mirror of Debian.
mirror_here() {
  { cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } \
    | awk '/^URIs:/ {found = $2; exit} /^deb / {found = $2; exit} END {print found ? found : "http://deb.debian.org/debian"}'
}

system=(--variant=minbase --include=ca-certificates)
if [ "$way" = ubuntu ]; then
  ring=/usr/share/keyrings/ubuntu-archive-keyring.gpg
  [ -e $ring ] || skip "needs $ring (Ubuntu's package ubuntu-keyring)"
  system+=(--keyring=$ring --components=main,universe noble)
  source_of=(http://archive.ubuntu.com/ubuntu /usr/share/debootstrap/scripts/gutsy)
else
  system+=(bookworm)
  source_of=("$(mirror_here)")
fi

tree=$(mktemp -d /var/tmp/sluice-bare.XXXXXX)
clean() {
  umount -l "$tree/proc" "$tree/dev/shm" 2>/dev/null || true
  if [ -n "${BARE_KEEP:-}" ]; then echo "kept: $tree"; else rm -rf --one-file-system "$tree"; fi
}
trap clean EXIT
chmod 755 "$tree"
debootstrap "${system[@]}" "$tree" "${source_of[@]}" >"$tree.log" 2>&1 || { tail -n 5 "$tree.log"; rm -f "$tree.log"; skip "debootstrap failed: no network?"; }
rm -f "$tree.log"

# This machine's way to the network, where it has one of its own.
sources=(/etc/apt/sources.list /etc/apt/sources.list.d)
[ "$way" != ubuntu ] || sources=()
for file in "${sources[@]}" /etc/apt/apt.conf.d /etc/pip.conf /etc/resolv.conf /etc/hosts \
            /usr/local/share/ca-certificates ${PIP_CERT:-}; do
  [ -e "$file" ] || continue
  mkdir -p "$tree$(dirname "$file")"
  cp -rL "$file" "$tree$(dirname "$file")/"
done
[ "$way" = ubuntu ] || rm -f "$tree"/etc/apt/sources.list
rm -f "$tree"/etc/apt/apt.conf.d/*docker*
chroot "$tree" update-ca-certificates >/dev/null 2>&1 || true
mount -t proc proc "$tree/proc"
mkdir -p "$tree/dev/shm"
mount -t tmpfs shm "$tree/dev/shm"
chmod 1777 "$tree/dev/shm" "$tree/tmp"
chroot "$tree" useradd --create-home ann
home=$tree/home/ann
copy_source "$home/source"

# as_user COMMAND...: as ann in her source folder, without the network where the way is offline.
as_user() {
  local network=()
  [ "$way" != offline ] || network=(unshare --net)
  "${network[@]}" bash -c 'ip link set lo up 2>/dev/null; exec "$@"' - chroot --userspec=ann "$tree" env -i HOME=/home/ann \
    LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin ${PIP_CERT:+PIP_CERT="$PIP_CERT"} PIP_DEFAULT_TIMEOUT=60 \
    bash -c 'cd ~/source 2>/dev/null || cd; "$@"' - "$@"
}
from=()
if [ "$way" = offline ]; then
  maker=$home/maker
  copy_source "$maker"
  "$maker/launch/setup" --device cpu --bundle "$home/sluice.tar"
  rm -rf "$maker"
  from=(--offline /home/ann/sluice.tar)
fi
chroot "$tree" chown -R ann /home/ann

cat >"$home/build.sh" <<'END'
set -e
export PATH=$PWD/.venv/bin:$PATH
cmake --preset cpu -DSLUICE_TESTS=OFF
cmake --build --preset cpu --target sluice
cmake --install build/cpu ${1:+--prefix "$1"}
END
cat >"$home/train.sh" <<'END'
set -e
cat "$1"/docs/*.md >text.txt
"$1/bin/sluice" prepare --input text.txt --tokenizer train-sentencepiece:400 --out corpus
"$1/launch/mpirun.sh" -n $2 -- sluice train --config "$1/configs/experiments/tiny.ini" --data.corpus=corpus --run.dir=run
PATH=$1/packages/tools/bin:$PATH "$1/bin/sluice" report run
"$1/bin/sluice" inspect run | grep -i "ranks\|world"
rm -rf corpus run
END
as_user launch/setup --device cpu --prefix /home/ann/sluice "${from[@]}"
# One way installs beside the packages, the other somewhere else, and gets its own of what runs.
installed=sluice
[ "$way" != offline ] || installed=tree
as_user bash /home/ann/build.sh "/home/ann/$installed"
ranks=2
if [ "$way" = ubuntu ]; then
  ranks=1
  said=$(as_user bash /home/ann/train.sh "/home/ann/$installed" 2 2>&1) && { echo "FAILED: two ranks, now?"; exit 1; }
  grep "2 processes were started.*but MPI sees 1 of them" <<<"$said" || { echo "FAILED: $said"; exit 1; }
  as_user bash -c 'rm -rf corpus run'
fi
as_user bash /home/ann/train.sh "/home/ann/$installed" $ranks
mkdir "$home/elsewhere"
mv "$home/$installed" "$home/elsewhere/moved"
rm -rf "$home/source" "$home/sluice"
chmod -R a-w "$home/elsewhere/moved"
as_user bash /home/ann/train.sh /home/ann/elsewhere/moved $ranks
echo "all well: $way"
