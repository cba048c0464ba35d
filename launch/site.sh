# Sourced by launch/setup: what --prefix does. Finds compilers and libraries in the site's folders, and unpacks the Debian
# packages of what is not there into PREFIX/packages, without root.
arch=x86_64-linux-gnu

# What is needed, one a line: name | how it is found | Debian packages.
needs() {
  cat <<'TABLE'
C++20 compiler|compiler|g++
Python with venv|python|python3 python3-venv
HDF5|hdf5.h|libhdf5-dev
Boost 1.74+|boost/program_options.hpp|libboost-program-options-dev
spdlog|spdlog/spdlog.h|libspdlog-dev
fmt|fmt/format.h|libfmt-dev
nlohmann/json|nlohmann/json.hpp|nlohmann-json3-dev
xxHash|xxhash.h|libxxhash-dev
SentencePiece (optional)|sentencepiece_processor.h|libsentencepiece-dev
Ceres (optional)|ceres/tiny_solver.h|libceres-dev
gnuplot (optional)|gnuplot|gnuplot-nox
TABLE
  case $mpi in
    mpich|auto) echo "MPI|mpi|libmpich-dev mpich" ;;
    openmpi) echo "MPI|mpi|" ;;
  esac
  if [ $tests = yes ]; then
    cat <<'TABLE'
GoogleTest|gmock/gmock.h|libgtest-dev libgmock-dev
rapidcheck|rapidcheck.h|librapidcheck-dev
h5dump|h5dump|hdf5-tools
clang-format|clang-format|clang-format
TABLE
  fi
}

# Folders in which a site's modules say that libraries are.
site_prefixes() { printf '%s' "${CMAKE_PREFIX_PATH:-}" | tr ';:' '\n\n'; }

find_header() {
  local folder suffix
  { site_prefixes | sed 's,$,/include,'; printf '%s' "${CPATH:-}" | tr ':' '\n'
    printf '\n%s\n' /usr/local/include /usr/include "/usr/include/$arch" "$packages_dir/usr/include"; } |
    while IFS= read -r folder; do
      [ -n "$folder" ] || continue
      for suffix in "" hdf5/serial; do
        [ -e "$folder/${suffix:+$suffix/}$1" ] && { echo "$folder/${suffix:+$suffix/}$1"; return; }
      done
    done
}

find_mpicc() {
  local mpicc path
  for mpicc in ${MPICC:-} $([ "$mpi" = auto ] || echo "mpicc.$mpi") mpicc "$packages_dir/tools/bin/mpicc"; do
    path=$(command -v "$mpicc") || continue
    case "$mpi:$("$path" -show 2>/dev/null) " in
      auto:*|openmpi:*"-lmpi "*|mpich:*"-lmpich "*) echo "$path"; return ;;
    esac
  done
}

find_compiler() {
  local path version
  for path in ${CXX:-} c++ g++ "$packages_dir/tools/bin/g++"; do
    path=$(command -v "$path") && version=$("$path" -dumpversion 2>/dev/null) || continue
    [ "${version%%.*}" -ge 11 ] 2>/dev/null && { echo "$path"; return; }
  done
}

# find_need PROBE: where it is, or nothing.
find_need() {
  case $1 in
    compiler) find_compiler ;;
    python) find_python 2>/dev/null || true ;;
    mpi) find_mpicc ;;
    *.h|*.hpp) find_header "$1" | head -n 1 ;;
    *) command -v "$1" || { [ ! -x "$packages_dir/tools/bin/$1" ] || echo "$packages_dir/tools/bin/$1"; } ;;
  esac
}

# Says where each thing is, a line each; leaves the names and packages of the others in $missing_names, those that it does not
# go without in $missing_required, their packages in $missing_debian.
look_around() {
  local name probe debian place
  missing_names="" missing_required="" missing_debian=""
  while IFS='|' read -r name probe debian; do
    place=$(find_need "$probe") || true
    if [ -n "$place" ]; then
      printf '   %-26s %s\n' "$name" "$place"
    else
      missing_names+="${missing_names:+, }$name" missing_debian+="${debian:+ $debian}"
      [[ $name == *optional* ]] || missing_required+="${missing_required:+, }$name"
    fi
  done < <(needs)
}

apt_private() {  # apt's own folders belong to root: these are ours, but what is installed is the system's
  local work=$prefix/apt
  mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
  apt_options=(-o Dir::State="$work/state" -o Dir::State::status="${1:-/var/lib/dpkg/status}" -o Dir::Cache="$work/cache"
               -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3)
}

# Packages of the network, or of the bundle, into $packages_dir.
unpack_missing() {
  [ "$mpi" != openmpi ] || [ -n "$(find_mpicc)" ] || stop "launch/setup: --mpi openmpi: no mpicc of Open MPI on PATH, and what is
unpacked does not work: it looks for its parts under /usr. Load its module, or take --mpi mpich"
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    [ -n "$missing_required" ] || { say "   left out: $missing_names"; return 0; }
    stop "launch/setup: missing: $missing_names.
This is neither Debian nor Ubuntu: load the site's modules for them (CMAKE_PREFIX_PATH names their folders, mpicc is on
PATH), or install the counterparts of the Debian packages:$missing_debian"
  fi
  local debs
  if [ -n "$offline" ]; then
    debs=$bundle_dir/debs
    ls "$debs"/*.deb >/dev/null 2>&1 || stop "launch/setup: missing: $missing_names; the bundle $offline has no Debian packages"
  else
    apt_private
    run_step "Debian's list of packages" - apt-get update -q "${apt_options[@]}"
    run_step "Debian packages, to be unpacked" - apt-get install -y -q --download-only --no-install-recommends \
      "${apt_options[@]}" $missing_debian
    debs=$prefix/apt/cache/archives
  fi
  say "   unpacked into $packages_dir: $missing_names"
  run_step "unpack" - bash "$root/launch/unpack.sh" "$debs" "$packages_dir"
  [ -n "$offline" ] || rm -rf "$prefix/apt"
  look_around >/dev/null
  [ -z "$missing_required" ] || stop "launch/setup: still missing after the packages were unpacked: $missing_required"
}

# cmake_entry NAME TYPE VALUE: a line of build/setup.cmake. What stands in the cache already, from -D, wins.
cmake_entry() { [ -z "$3" ] || printf 'set(%s "%s" CACHE %s "")\n' "$1" "$3" "$2"; }

cmake_settings() {
  local mpicc compiler prefixes packages="" tools=$packages_dir/tools
  mpicc=$(find_mpicc)
  prefixes=$(site_prefixes | paste -sd ';')
  say "# Written by launch/setup: what it found or unpacked. To have CMake look by itself again, remove this file."
  if [ -n "$packages_dir" ] && [ -d "$packages_dir/usr" ]; then
    packages=$packages_dir
    prefixes="$tools;$packages/usr${prefixes:+;$prefixes}"
    cmake_entry SLUICE_PACKAGES PATH "$packages"
    cmake_entry CMAKE_EXE_LINKER_FLAGS STRING "-Wl,--disable-new-dtags -Wl,-rpath-link,$packages/usr/lib/$arch"
    cmake_entry CMAKE_BUILD_RPATH PATH "$packages/usr/lib/$arch"
    [ ! -x "$tools/bin/gcc" ] || cmake_entry CMAKE_C_COMPILER FILEPATH "$tools/bin/gcc"
  fi
  cmake_entry CMAKE_INSTALL_PREFIX PATH "$prefix"
  cmake_entry CMAKE_PREFIX_PATH STRING "$prefixes"
  compiler=$(find_compiler)
  [ "$compiler" = "$(command -v c++)" ] || cmake_entry CMAKE_CXX_COMPILER FILEPATH "$compiler"
  [ "$mpi" = auto ] || cmake_entry SLUICE_MPI STRING "$mpi"
  cmake_entry MPI_C_COMPILER FILEPATH "$mpicc"
  case $mpicc in "$tools"/*) cmake_entry MPIEXEC_EXECUTABLE FILEPATH "$tools/bin/mpiexec.mpich" ;; esac
  cmake_entry SLUICE_TORCH_DIR PATH "$torch"
}

# What CMake is told, in build/setup.cmake. A build folder that was configured with something else starts anew.
write_cmake_settings() {
  local file=$root/build/setup.cmake text
  text=$(cmake_settings)
  mkdir -p "$root/build"
  [ "$(cat "$file" 2>/dev/null)" != "$text" ] || return 0
  printf '%s\n' "$text" >"$file"
  rm -f "$root"/build/*/CMakeCache.txt
}
