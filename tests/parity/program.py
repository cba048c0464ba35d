"""Running `sluice` in tests of files that it shares with other programs: corpora of random ids, checkpoints of given weights."""

import pathlib
import subprocess

import numpy as np

import parameter_shapes

VOCABULARY = 37


def sluice(program, *words):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=100)


def done(program, *words):
    """Its standard output; it must succeed."""
    ended = sluice(program, *words)
    if ended.returncode != 0:
        raise AssertionError(f"sluice {' '.join(map(str, words))}: exit code {ended.returncode}: {ended.stderr}")
    return ended.stdout


def make_corpus(program, folder, tokens=4000):
    """Ids that follow a pattern with noise, so that there is something to learn; a tenth of them for validation."""
    random = np.random.default_rng(3)
    ids = (np.arange(tokens) * 7 % 31 + random.integers(0, 6, tokens)).astype("<u2")
    np.save(pathlib.Path(folder, "ids.npy"), ids)
    done(program, "prepare", "--tokens", "npy", pathlib.Path(folder, "ids.npy"), "--vocab-size", VOCABULARY, "--tokenizer",
         "external:pattern", "--valid-fraction", "0.1", "--out", pathlib.Path(folder, "corpus"))
    return pathlib.Path(folder, "corpus")


def draw(shapes, seed):
    """{name: float32 values}, norm weights and spatial biases about one, weights small enough for a model to learn."""
    random = np.random.default_rng(seed)
    ones = ("norm.weight", "sgu.bias", "ln_1.weight", "ln_2.weight", "ln_f.weight", "to_logits.0.weight", "sgu.proj.bias")
    return {name: (random.normal(0, 0.2, shape) + name.endswith(ones)).astype("<f4") for name, shape in shapes.items()}


def import_weights(program, folder, file, layout, settings, corpus, name="imported"):
    """The checkpoint's folder."""
    model = pathlib.Path(folder, name + ".ini")
    model.write_text(parameter_shapes.ini(settings))
    out = pathlib.Path(folder, name)
    done(program, "import", "--from", layout, file, "--model", model, "--corpus", corpus, "--out", out)
    return out
