"""Language models in plain PyTorch, one function each, written from the equations: {name: tensor} of parameters and
tokens [B, T] -> logits [B, T, V]. `o` holds a [model] section's settings as text."""

import math

import torch


def norm(x, p, name, o):
    eps = float(o["norm_eps"])
    if o["norm"] == "rms":
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * p[name + ".weight"]
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * p[name + ".weight"]
    return scaled + p[name + ".bias"] if name + ".bias" in p else scaled


def linear(x, p, name):
    y = torch.einsum("...i,oi->...o", x, p[name + ".weight"])
    return y + p[name + ".bias"] if name + ".bias" in p else y


def gelu(x, form="exact"):
    if form == "tanh":
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def sinusoids(n, d, like):
    """Vaswani et al. 2017, 3.5: sine in even channels, cosine in odd ones."""
    t = torch.arange(n, dtype=like.dtype)[:, None]
    c = torch.arange(d)[None, :]
    angle = t * 10000.0 ** (-((c - c % 2).to(like.dtype)) / d)
    return torch.where(c % 2 == 0, torch.sin(angle), torch.cos(angle))


def rotary(x, base):
    """x [B, T, k]: channels c and c + k / 2 are a complex number, multiplied by exp(i t base^(-2c / k))."""
    _, length, k = x.shape
    t = torch.arange(length, dtype=x.dtype)[:, None]
    angle = t * base ** (-2 * torch.arange(k // 2, dtype=x.dtype) / k)
    turned = torch.complex(x[..., : k // 2], x[..., k // 2:]) * torch.exp(1j * angle)
    return torch.cat([turned.real, turned.imag], -1)


def relative_bucket(distance, o):
    """Raffel et al. 2020, 2.1: 32 buckets, of which half are for later positions where those are read; half of the others
    for one distance each, the rest for distances that grow by one factor up to 128."""
    buckets, first = (16, 16 if distance > 0 else 0) if o["causal"] == "false" else (32, 0)
    reach = abs(distance) if o["causal"] == "false" else max(-distance, 0)
    exact = buckets // 2
    if reach < exact:
        return first + reach
    borders = [exact * (128 / exact) ** (step / (buckets - exact)) for step in range(buckets - exact)]
    return first + exact + sum(reach >= border - 1e-9 for border in borders) - 1


def relative_bias(table, length, o):
    """[t, s] of one head's biases [32]."""
    return torch.stack([torch.stack([table[relative_bucket(s - t, o)] for s in range(length)]) for t in range(length)])


def attention(x, p, name, o):
    d = x.shape[-1]
    heads = int(o["heads"])
    k = d // heads
    by_content = o["attention"] == "full"
    qkv = linear(x, p, name + ".qkv") if by_content else torch.cat([x, x, linear(x, p, name + ".value")], -1)
    mixed = []
    for head in range(heads):
        query, key, value = (qkv[..., part * d + head * k: part * d + (head + 1) * k] for part in range(3))
        if o["positions"] == "rotary":
            query, key = rotary(query, float(o["rotary_base"])), rotary(key, float(o["rotary_base"]))
        scores = torch.einsum("btc,bsc->bts", query, key) / math.sqrt(k) * by_content
        if o["positions"] in ("relative", "learned+relative"):
            scores = scores + relative_bias(p[name + ".relative.weight"][head], x.shape[1], o)
        scores = torch.where(seen(x.shape[1], o), scores, -math.inf)
        weights = torch.exp(scores - scores.max(-1, keepdim=True).values)
        weights = weights / weights.sum(-1, keepdim=True)
        mixed.append(torch.einsum("bts,bsc->btc", weights, value))
    return linear(torch.cat(mixed, -1), p, name + ".out")


def mlp(x, p, name, o):
    hidden = linear(x, p, name + ".expand")
    if o["mlp"] == "swiglu":
        gate, up = hidden[..., : hidden.shape[-1] // 2], hidden[..., hidden.shape[-1] // 2:]
        hidden = gate * torch.sigmoid(gate) * up
    else:
        hidden = gelu(hidden, o["gelu"])
    return linear(hidden, p, name + ".contract")


def transformer_block(x, p, name, o):
    x = x + attention(norm(x, p, name + "attention.norm", o), p, name + "attention", o)
    return x + mlp(norm(x, p, name + "mlp.norm", o), p, name + "mlp", o)


def seen(length, o):
    """[t, s]: position t reads position s."""
    return torch.ones(length, length, dtype=torch.bool).tril() if o["causal"] == "true" else torch.ones(length, length, dtype=torch.bool)


def spatial_weights(w, head, length, o):
    """W[:length, :length] of one head; Toeplitz: W[t, s] = w[n - 1 + s - t], zero where a position is not read."""
    w = w if o["spatial_heads"] == "1" else w[head]
    if o["spatial"] == "toeplitz":
        n = (w.shape[0] + 1) // 2
        w = torch.stack([torch.stack([w[n - 1 + s - t] for s in range(length)]) for t in range(length)])
    return torch.where(seen(length, o), w[:length, :length], 0.0)


def tiny_attention(x, p, name, o):
    """Figure 6 of the paper: one head."""
    qkv = linear(x, p, name + ".qkv")
    a = qkv.shape[-1] // 3
    query, key, value = (qkv[..., part * a: (part + 1) * a] for part in range(3))
    scores = torch.einsum("btc,bsc->bts", query, key) / math.sqrt(a)
    weights = torch.softmax(torch.where(seen(x.shape[1], o), scores, -math.inf), -1)
    return linear(torch.einsum("bts,bsc->btc", weights, value), p, name + ".out")


def token_shift(x, o):
    """Equal groups of channels, the first from `reach` positions later (or from here, if causal), the last from `reach`
    earlier; zeros beyond the ends."""
    reach = int(o["token_shift"])
    distances = list(range(0 if o["causal"] == "true" else -reach, reach + 1))
    k = x.shape[2] // len(distances)
    y = x.clone()
    for group, distance in enumerate(distances):
        for t in range(x.shape[1]):
            inside = 0 <= t - distance < x.shape[1]
            y[:, t, group * k: (group + 1) * k] = x[:, t - distance, group * k: (group + 1) * k] if inside else 0.0
    return y


def gmlp_block(x, p, name, o):
    """arXiv 2105.08050, figures 1 and 6, equations 2 to 4: U, norm and W of the gate, V."""
    length = x.shape[1]
    normed = token_shift(norm(x, p, name + "norm", o), o)
    z = gelu(linear(normed, p, name + "expand"), o["gelu"])
    half = z.shape[-1] // 2
    bypass, gate = (z[..., :half], z[..., half:]) if o["gate"] == "split" else (z, z)
    if o["gate_norm"] == "true":
        gate = norm(gate, p, name + "sgu.norm", o)
    heads = int(o["spatial_heads"])
    k = gate.shape[-1] // heads
    mixed = []
    for head in range(heads):
        weights = spatial_weights(p[name + "sgu.weight"], head, length, o)
        bias = p[name + "sgu.bias"] if heads == 1 else p[name + "sgu.bias"][head]
        mixed.append(torch.einsum("ts,bsc->btc", weights, gate[..., head * k: (head + 1) * k]) + bias[:length, None])
    gate = torch.cat(mixed, -1)
    if o["tiny_attention"] != "0":
        gate = gate + tiny_attention(normed, p, name + "attention", o)
    gate = {"none": lambda g: g, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": lambda g: g * (g > 0),
            "gelu": lambda g: gelu(g, o["gelu"])}[o["gate_activation"]](gate)
    gated = {"split": bypass * gate, "multiplicative": bypass * gate, "additive": bypass + gate, "linear": gate}[o["gate"]]
    return x + linear(gated, p, name + "contract")


def mixer_block(x, p, name, o):
    """Tolstikhin et al. 2021, equation 1, over the first positions of a shorter sequence."""
    length = x.shape[1]
    y = norm(x, p, name + "token.norm", o)
    hidden = torch.einsum("st,btc->bsc", p[name + "token.expand.weight"][:, :length], y) + p[name + "token.expand.bias"][:, None]
    x = x + torch.einsum("ts,bsc->btc", p[name + "token.contract.weight"][:length], gelu(hidden, o["gelu"])) \
        + p[name + "token.contract.bias"][:length, None]
    return x + mlp(norm(x, p, name + "mlp.norm", o), p, name + "mlp", o)


BLOCKS = {"gmlp": gmlp_block, "transformer": transformer_block, "mixer": mixer_block}


def logits(tokens, p, o):
    x = p["embed.weight"][tokens]
    d = x.shape[-1]
    if o["scale_embedding"] == "true":
        x = x * math.sqrt(d)
    if o["positions"] in ("learned", "learned+relative"):
        x = x + p["positions.weight"][: tokens.shape[1]]
    if o["positions"] == "sinusoidal":
        x = x + sinusoids(tokens.shape[1], d, x)
    for layer in range(int(o["layers"])):
        x = BLOCKS[o["kind"]](x, p, f"blocks.{layer}.", o)
    x = norm(x, p, "norm", o)
    head = {"head.weight": p.get("head.weight", p["embed.weight"])}
    if "head.bias" in p:
        head["head.bias"] = p["head.bias"]
    return linear(x, head, "head")


def loss_sum(tokens, targets, p, o):
    """Over targets that are not negative, the sum of -log softmax."""
    z = logits(tokens, p, o)
    log_p = z - torch.logsumexp(z, -1, keepdim=True)
    counted = targets >= 0
    return -(log_p.gather(-1, targets.clamp(min=0)[..., None])[..., 0] * counted).sum()
