#!/usr/bin/env bash
# installed_tree.sh BUILD CMAKE: `cmake --install` makes a tree that works where it is moved to, writes nothing into itself, and
# needs neither this source tree nor its .venv.
set -euo pipefail
build=$1 cmake=$2
source=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT
fail() { echo "FAILED: $*"; exit 1; }

"$cmake" --install "$build" --prefix "$scratch/made" >"$scratch/install.log" || { tail -n 20 "$scratch/install.log"; fail "cmake --install"; }
mkdir "$scratch/site"
mv "$scratch/made" "$scratch/site/sluice"
tree=$scratch/site/sluice
chmod -R a-w "$tree"
contents() { find "$tree" -printf '%P %s %m %T@\n' | sort; }
contents >"$scratch/before"
for part in bin/sluice launch/mpirun.sh launch/remote_shell.sh configs/experiments/tiny.ini docs/reference.md share/modulefiles/sluice README.md; do
  [ -e "$tree/$part" ] || fail "$part is missing"
done

# Libraries: its own, the system's, and MPI's.
unset LD_LIBRARY_PATH
libraries=$(ldd "$tree/bin/sluice")
[[ $libraries != *"not found"* ]] || fail "libraries are not found: $libraries"
for library in libtorch_cpu.so libc10.so; do
  [[ $libraries == *"$library => $tree/"* ]] || fail "$library is not the tree's own: $libraries"
done
if grep -F -e "=> $source/" -e "=> ${SLUICE_TORCH_DIR:-$source/.venv}/" <<<"$libraries"; then fail "these are not the tree's own"; fi

# A training of two ranks, from a folder that has nothing to do with it.
mkdir "$scratch/work"
cd "$scratch/work"
seq 1 4000 >text.txt
"$tree/bin/sluice" prepare --input text.txt --tokenizer bytes --out corpus >/dev/null
"$tree/launch/mpirun.sh" -n 2 -- sluice train --config "$tree/configs/experiments/tiny.ini" --data.corpus=corpus \
  --run.dir=run --train.steps=6 --train.device=cpu >train.log 2>&1 || { cat train.log; fail "training"; }
grep -q '"step":6' run/metrics.jsonl || fail "no sixth step: $(cat run/metrics.jsonl)"
grep -rqs '"world_size": *2' run/checkpoints || fail "not two ranks: $(cat train.log)"

# Without gnuplot a report is refused, with how to get it. (Open MPI does not start without an ssh, alone too.)
mkdir "$scratch/path"
for program in ssh rsh orted; do
  ! command -v $program >/dev/null || ln -s "$(command -v $program)" "$scratch/path/"
done
code=0
said=$(PATH=$scratch/path "$tree/bin/sluice" report run 2>&1) || code=$?
[ $code -eq 2 ] && [[ $said == *gnuplot* ]] || fail "report without gnuplot: exit code $code: $said"

# Completion, as bash loads it.
offered=$(bash -c 'source "$1"; COMP_LINE="sluice train --train.prec" COMP_POINT=25 COMP_CWORD=2
  COMP_WORDS=(sluice train --train.prec); _sluice; echo "${COMPREPLY[@]}"' - "$tree/share/bash-completion/completions/sluice")
[ "$offered" = "--train.precision=" ] || fail "completion offers '$offered'"

contents >"$scratch/after"
diff "$scratch/before" "$scratch/after" || fail "the tree was written into"
echo "$(du -sh "$tree" | cut -f1), moved and read-only: all well"
