# Sourced by launch/setup: --bundle and --offline, all that set-up takes from the network in one file.

# What a bundle fits: one that was made elsewhere would fail late and strangely.
bundle_platform() {
  . /etc/os-release
  printf 'system %s %s\n' "${ID:-unknown}" "${VERSION_ID:-unknown}"
}

# check_torch: --torch names LibTorch's folder or a virtual environment with it.
check_torch() {
  torch=$(realpath "$torch" 2>/dev/null || echo "$torch")
  local library
  for library in "$torch"/lib/libtorch_cpu.so "$torch"/lib/python3*/site-packages/torch/lib/libtorch_cpu.so; do
    [ ! -e "$library" ] || return 0
  done
  stop "launch/setup: --torch $torch: there is no lib/libtorch_cpu.so, nor a virtual environment with torch"
}

write_bundle() {
  local work=$root/build/bundle files python venv=$root/build/bundle-venv options=()
  rm -rf "$work"
  mkdir -p "$work/wheels" "$work/debs"
  requirement_files
  python=$(find_python)
  [ -x "$venv/bin/pip" ] || run_step "Python environment to fetch with" - "$python" -m venv "$venv"
  for want in "${files[@]}"; do options+=(-r "$want"); done
  run_step "wheels from PyPI" - env PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/pip" download --no-deps --require-hashes \
    --only-binary :all: --dest "$work/wheels" "${options[@]}"
  rm -rf "$venv"
  if command -v apt-get >/dev/null; then
    # As if nothing were installed: the other machine may have less than this one.
    local prefix=$work packages=""
    : >"$work/none-installed"
    while IFS='|' read -r _ _ debs; do packages+=" $debs"; done < <(needs)
    apt_private "$work/none-installed"
    run_step "Debian's list of packages" - apt-get update -q "${apt_options[@]}"
    run_step "Debian packages" - apt-get install -y -q --download-only --no-install-recommends "${apt_options[@]}" $packages
    mv "$work"/apt/cache/archives/*.deb "$work/debs/"
    rm -rf "$work/apt" "$work/none-installed"
  else
    say "   no apt-get here: the bundle has wheels alone, MPI and libraries are to come from modules"
  fi
  { bundle_platform; printf 'python %s\n' "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"; } >"$work/PLATFORM"
  (cd "$work" && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum >SHA256SUMS)
  tar -cf "$bundle" -C "$work" .
  rm -rf "$work"
  say "wrote $bundle, $(du -h "$bundle" | cut -f1), sha256 $(sha256sum "$bundle" | cut -d' ' -f1)"
}

# Opens and checks the bundle; leaves its folder in $bundle_dir.
open_bundle() {
  bundle_dir=$root/build/offline
  rm -rf "$bundle_dir"
  mkdir -p "$bundle_dir"
  tar -xf "$offline" -C "$bundle_dir" 2>/dev/null && [ -f "$bundle_dir/SHA256SUMS" ] \
    || stop "launch/setup: --offline $offline: not a bundle that launch/setup --bundle wrote, or a part of one"
  local wrong
  wrong=$(cd "$bundle_dir" && sha256sum --quiet -c SHA256SUMS 2>&1) \
    || stop "launch/setup: --offline $offline: damaged: $wrong"
  [ "$(cd "$bundle_dir" && find . -type f ! -name SHA256SUMS | wc -l)" -eq "$(wc -l <"$bundle_dir/SHA256SUMS")" ] \
    || stop "launch/setup: --offline $offline: it holds files that its SHA256SUMS does not name"
  local made here
  made=$(head -n 1 "$bundle_dir/PLATFORM") here=$(bundle_platform)
  [ "$made" = "$here" ] \
    || say "   the bundle was made on $made, this is $here: its Debian packages are left alone"
  [ "$made" = "$here" ] || rm -rf "$bundle_dir/debs"
}
