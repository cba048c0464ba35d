# Sourced after steps.sh: Debian packages, as root or with sudo.

# can_be_root: this is root, or sudo works, perhaps after asking on a terminal.
can_be_root() {
  [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; }
}

# missing_packages NAME...: those that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf ' %s' "$package"
  done
}

apt_progress() {  # each package is unpacked, then set up
  awk '/newly installed/ {n = $3} /^Unpacking|^Setting up/ {d++} END {if (n) print d + 0, 2 * n}' "$step_log"
}

# install_debian NAME...: installs what is missing; stops with exit code 2 and the line to run where it cannot.
install_debian() {
  command -v dpkg-query >/dev/null || stop "${0##*/}: this is no Debian; install the counterparts of: $*"
  local missing as_root=""
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  can_be_root || stop "${0##*/}: Debian packages are missing, and this is neither root nor sudo. Have somebody run:"$'\n'"  apt-get install -y --no-install-recommends$missing"
  [ "$(id -u)" -eq 0 ] || as_root=sudo
  run_step "Debian's list of packages" - $as_root apt-get update -q
  run_step "Debian packages ($(echo "$missing" | wc -w) missing)" apt_progress $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends -o Acquire::Retries=3 $missing
}
