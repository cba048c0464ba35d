"""Names and shapes of a model's parameters, written down beside the program's own list: {name: shape}. `o` holds a [model]
section's settings as text, those of DEFAULTS where it does not say."""

DEFAULTS = {"kind": "gmlp", "layers": "2", "d_model": "24", "d_ffn": "40", "seq_len": "9", "tied": "true",
            "positions": "none", "scale_embedding": "false", "head_bias": "false", "norm_eps": "1e-5", "heads": "8",
            "norm": "layer", "mlp": "gelu", "gelu": "exact", "bias": "true", "rotary_base": "10000", "causal": "true",
            "gate": "split", "spatial": "free", "spatial_heads": "1", "gate_activation": "none", "gate_norm": "true",
            "tiny_attention": "0", "tiny_attention_qkv_bias": "true", "token_shift": "0", "attention": "full", "d_spatial": "5"}


def product(name, out, width, bias=True):
    return {name + ".weight": (out, width), **({name + ".bias": (out,)} if bias else {})}


def norm(name, width):
    return {name + ".weight": (width,), name + ".bias": (width,)}


def gmlp_block(o, d):
    f, n, a, heads = (int(o[key]) for key in ("d_ffn", "seq_len", "tiny_attention", "spatial_heads"))
    c = f // 2 if o["gate"] == "split" else f
    of_heads = (heads,) if heads > 1 else ()
    attention = {**product("attention.qkv", 3 * a, d, o["tiny_attention_qkv_bias"] == "true"), **product("attention.out", c, a)}
    return {**norm("norm", d), **product("expand", f, d), **(attention if a else {}),
            **(norm("sgu.norm", c) if o["gate_norm"] == "true" else {}), "sgu.weight": (*of_heads, n, n), "sgu.bias": (*of_heads, n),
            **product("contract", d, c)}


def transformer_block(o, d):
    f = int(o["d_ffn"])
    return {**norm("attention.norm", d), **product("attention.qkv", 3 * d, d), **product("attention.out", d, d),
            **norm("mlp.norm", d), **product("mlp.expand", f, d), **product("mlp.contract", d, f)}


def shapes(settings, vocabulary):
    """Of a gMLP with free spatial weights, or a Transformer as GPT-2 is built."""
    o = {**DEFAULTS, **settings}
    d = int(o["d_model"])
    block = {"gmlp": gmlp_block, "transformer": transformer_block}[o["kind"]](o, d)
    all_shapes = {"embed.weight": (vocabulary, d)}
    if o["positions"] == "learned":
        all_shapes["positions.weight"] = (int(o["seq_len"]), d)
    for layer in range(int(o["layers"])):
        all_shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    all_shapes |= norm("norm", d)
    if o["tied"] == "false":
        all_shapes["head.weight"] = (vocabulary, d)
    if o["head_bias"] == "true":
        all_shapes["head.bias"] = (vocabulary,)
    return all_shapes


def ini(settings):
    """[model] as a settings file, with the sizes of DEFAULTS."""
    sizes = {key: DEFAULTS[key] for key in ("layers", "d_model", "d_ffn", "seq_len")}
    return "[model]\n" + "".join(f"{key} = {value}\n" for key, value in {**sizes, **settings}.items())
