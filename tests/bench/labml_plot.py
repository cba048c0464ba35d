"""The validation curves of labml.sh as a picture: python3 labml_plot.py PICTURE.png LABML.json [LABML.json ...]

Each file is one set of runs (one GPU, two GPUs): its seeds as thin lines of one colour. The band is where six runs of the same
experiment in PyTorch had their best validation loss. Needs gnuplot."""

import json
import pathlib
import subprocess
import sys

from labml import REFERENCE

COLOURS = ("#3366aa", "#cc7722", "#448844", "#884488")


def title(runs):
    ranks = runs[0]["ranks"]
    return f"sluice on {ranks} GPU{'s' if ranks > 1 else ''}, {len(runs)} seeds"


def script(picture, sets):
    blocks, curves = [], []
    for number, runs in enumerate(sets):
        for run in runs:
            name = f"$c{len(blocks)}"
            blocks.append(f"{name} << E\n" + "\n".join(f"{step} {loss}" for step, loss in run["valid"]) + "\nE")
            label = f"title '{title(runs)}'" if run is runs[0] else "notitle"
            curves.append(f"{name} with lines lw 2 lc rgb '{COLOURS[number % len(COLOURS)]}' {label}")
    last = max(step for runs in sets for run in runs for step, _ in run["valid"])
    low, high = min(REFERENCE), max(REFERENCE)
    band = f"[0:{last}] '+' using 1:({low}):({high}) with filledcurves fc rgb '#bbbbbb' title 'PyTorch, best of each of six runs'"
    return "\n".join(blocks + [
        f"set terminal pngcairo size 1000,500 font ',13'; set output '{picture}'",
        "set xlabel 'step'; set ylabel 'validation loss, nats a character'",
        f"set grid lc rgb '#dddddd'; set yrange [1.45:2.2]; set xrange [0:{last}]; set key top right",
        "plot " + ", ".join([band] + curves)])


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sets = [json.loads(pathlib.Path(file).read_text()) for file in sys.argv[2:]]
    subprocess.run(["gnuplot"], input=script(sys.argv[1], sets), text=True, check=True)


if __name__ == "__main__":
    main()
