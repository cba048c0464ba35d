#!/usr/bin/env bash
# make_venv.sh PYTHON VENV PACKAGES: a virtual environment. A Python that was unpacked into PACKAGES finds neither its
# libraries nor pip by itself: its environment gets an interpreter that is started so that it does, and pip from its wheel.
set -euo pipefail
python=$1 venv=$2 packages=$3
case $python in
  "$packages"/tools/*) ;;
  *) exec "$python" -m venv "$venv" ;;
esac
"$python" -m venv --without-pip "$venv"
real=$(readlink -f "$packages/usr/bin/python3")
rm -f "$venv"/bin/python*
cat >"$venv/bin/python3" <<END
#!/bin/bash
export LD_LIBRARY_PATH=$packages/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
exec -a "$venv/bin/python3" "$real" "\$@"
END
chmod 755 "$venv/bin/python3"
ln -s python3 "$venv/bin/python"
wheel=$(ls "$packages"/usr/share/python-wheels/pip-*.whl)
"$venv/bin/python3" "$wheel/pip" install -q --no-index "$wheel"
