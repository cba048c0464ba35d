#!/usr/bin/env bash
# unpack.sh DEBS DIR: unpacks the Debian packages of folder DEBS that are not installed into DIR, without root, and makes
# them usable there: DIR/tools/bin has every program, started so that it finds its libraries, and an mpicc for CMake.
set -euo pipefail
debs=$1 dir=$2 arch=x86_64-linux-gnu
mkdir -p "$dir"/usr/{bin,sbin,lib,lib64} "$dir/tools/bin"
for folder in bin sbin lib lib64; do  # Debian's merged /usr
  [ -e "$dir/$folder" ] || ln -s "usr/$folder" "$dir/$folder"
done

for deb in "$debs"/*.deb; do
  package=$(dpkg-deb -f "$deb" Package)
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ] || continue
  echo "$package"
  # tar keeps the links above as they are; dpkg -x would replace them by folders.
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir" --no-same-owner --keep-directory-symlink
done

# Links that lead to / lead into DIR, where there is such a file.
find "$dir/usr" -type l -lname '/*' | while IFS= read -r link; do
  target=$(readlink "$link")
  [ ! -e "$dir$target" ] || ln -sfrT "$dir$target" "$link"
done
# The C library's linker script names its parts under /.
script=$dir/usr/lib/$arch/libc.so
[ ! -f "$script" ] || sed -i "s, /usr/lib/$arch/libc_nonshared.a, $dir/usr/lib/$arch/libc_nonshared.a," "$script"

cat >"$dir/tools/run" <<'RUN'
#!/bin/bash
# Started under the name of a program of ../usr/bin: runs that with the libraries here.
dir=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
name=$(basename "$0")
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
case $name in
  gcc*|g++*|cc|c++|cpp*)  # it looks for headers of the C library under / alone
    export PATH=$dir/tools/bin:$PATH
    exec "$dir/usr/bin/$name" "$@" -idirafter "$dir/usr/include/x86_64-linux-gnu" -idirafter "$dir/usr/include" ;;
esac
exec "$dir/usr/bin/$name" "$@"
RUN
chmod 755 "$dir/tools/run"
[ ! -e "$dir/usr/bin/gnuplot-nox" ] || ln -sf gnuplot-nox "$dir/usr/bin/gnuplot"
for program in "$dir"/usr/bin/*; do
  [ -x "$program" ] && ln -sfn ../run "$dir/tools/bin/$(basename "$program")"
done

if [ -e "$dir/usr/include/$arch/mpich/mpi.h" ]; then
  rm -f "$dir/tools/bin/mpicc"
  cat >"$dir/tools/bin/mpicc" <<'MPICC'
#!/bin/bash
# MPICH's own wrapper knows only /usr. This one answers what CMake asks (-showme:compile, -showme:link), and compiles.
dir=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
compile="-I$dir/usr/include/x86_64-linux-gnu/mpich" link="-L$dir/usr/lib/x86_64-linux-gnu -lmpich"
compiler=$dir/tools/bin/gcc
[ -x "$compiler" ] || compiler=gcc
case ${1:-} in
  -showme:compile) echo "$compile" ;;
  -showme:link) echo "$link" ;;
  -showme|-show) echo "$compiler $compile $link" ;;
  -showme:*) exit 1 ;;
  *) exec "$compiler" $compile "$@" $link ;;
esac
MPICC
  chmod 755 "$dir/tools/bin/mpicc"
  ln -sfn ../run "$dir/tools/bin/mpiexec"
  ln -sf mpiexec.mpich "$dir/usr/bin/mpiexec"
  # mpiexec starts this one on other hosts, where nobody says where its libraries are.
  proxy=$dir/usr/bin/hydra_pmi_proxy
  if [ -e "$proxy" ] && [ ! -e "$proxy.real" ]; then
    mv "$proxy" "$proxy.real"
    cat >"$proxy" <<'PROXY'
#!/bin/bash
dir=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd)
export LD_LIBRARY_PATH=$dir/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
exec "$dir/usr/bin/hydra_pmi_proxy.real" "$@"
PROXY
    chmod 755 "$proxy"
  fi
fi
