#!/usr/bin/env bash
# modulefile.sh MODULEFILE VERSION: the modulefile finds its tree from its own place. Environment Modules itself loads it
# where that is installed, else tclsh with the four commands that it uses.
set -euo pipefail
modulefile=$1 version=$2
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir -p "$tree/share/modulefiles/sluice"
cp "$modulefile" "$tree/share/modulefiles/sluice/$version"
modulecmd=$(ls /usr/lib/modulecmd.tcl /usr/lib/*/modulecmd.tcl /usr/share/Modules/libexec/modulecmd.tcl 2>/dev/null | head -n 1 || true)
if [ -n "$modulecmd" ]; then
  said=$(MODULEPATH=$tree/share/modulefiles tclsh "$modulecmd" bash load "sluice/$version" 2>&1)
elif command -v tclsh >/dev/null; then
  said=$(tclsh <<END
proc module-whatis {text} {}
proc conflict {name} {}
proc setenv {name value} { puts "\$name=\$value" }
proc prepend-path {name value} { puts "\$name=\$value" }
proc append-path {name value} { puts "\$name=\$value" }
set ModulesCurrentModulefile $tree/share/modulefiles/sluice/$version
source \$ModulesCurrentModulefile
END
)
else
  echo "skipped: neither modulecmd.tcl nor tclsh"
  exit 77
fi
echo "$said"
[[ $said == *"SLUICE_ROOT=$tree"[$'\n;']* && $said == *"PATH=$tree/launch"* && $said == *"$tree/bin"* ]]
