"""Settings as `sluice bench step` takes them (`--config FILE`, `--section.key=value`, later ones win), for programs that
stand beside it: what is measured on both sides then comes from the same words."""

import configparser
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULTS = {
    "model": {"kind": "gmlp", "layers": "6", "d_model": "256", "d_ffn": "1536", "seq_len": "256", "heads": "8", "tied": "true",
              "positions": "none", "causal": "true", "norm": "layer", "mlp": "gelu", "gelu": "exact", "bias": "true"},
    "train": {"micro_batch": "8", "global_batch": "32", "precision": "fp32", "threads": "0"},
}
# What of [model] the peer understands, and for each kind the only values of the rest that mean what the peer does.
SIZES = ("layers", "d_model", "d_ffn", "seq_len")
ONLY = {"gmlp": {"tied": "true", "positions": "none", "causal": "true"},
        "transformer": {"tied": "true", "positions": "learned", "causal": "true", "norm": "layer", "mlp": "gelu", "gelu": "tanh",
                        "bias": "true"}}


def read(words):
    """{"section.key": value} of words such as --config FILE --train.micro_batch=64 (or --train.micro_batch 64)."""
    values = {f"{section}.{key}": value for section, keys in DEFAULTS.items() for key, value in keys.items()}
    given = {}
    queue = list(words)
    while queue:
        name, _, value = queue.pop(0).partition("=")
        if not name.startswith("--"):
            raise SystemExit(f"{name}: expected --config FILE or --section.key=value")
        if not value:
            if not queue:
                raise SystemExit(f"{name}: a value must follow")
            value = queue.pop(0)
        if name == "--config":
            values.update(_file(value))
        else:
            given[name[2:]] = value
    values.update(given)
    if values["model.kind"] not in ONLY:
        raise SystemExit(f"model.kind={values['model.kind']}: the peer has {' and '.join(ONLY)}")
    for key, allowed in ONLY[values["model.kind"]].items():
        if values[f"model.{key}"] != allowed:
            raise SystemExit(f"model.{key}={values[f'model.{key}']}: the peer has only {allowed}")
    return values


def _file(name):
    parser = configparser.ConfigParser(inline_comment_prefixes="#")
    with open(name, encoding="utf-8") as file:
        parser.read_file(file)
    return {f"{section}.{key}": value for section in parser.sections() for key, value in parser[section].items()}


def model_sizes(values):
    return {key: int(values[f"model.{key}"]) for key in SIZES}


def flops_per_token(values, vocabulary):
    """Useful FLOPs of forward and backward, two for a multiplication and its addition: the channel products, the causal
    triangle with its diagonal of the products over positions, the head."""
    size = model_sizes(values)
    d, f, n = size["d_model"], size["d_ffn"], size["seq_len"]
    block = {"gmlp": 3 * d * f + f * (n + 1) / 2, "transformer": 8 * d * d + 4 * d * f + 4 * d * (n + 1) / 2}
    return 3 * (size["layers"] * block[values["model.kind"]] + 2 * d * vocabulary)


def parameters(values, vocabulary):
    """Roughly: matrices alone."""
    size = model_sizes(values)
    d, f, n = size["d_model"], size["d_ffn"], size["seq_len"]
    block = {"gmlp": 1.5 * d * f + n * n, "transformer": 4 * d * d + 2 * d * f}
    return size["layers"] * block[values["model.kind"]] + vocabulary * d
