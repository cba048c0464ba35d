"""Causal language models in plain PyTorch, one function each, written from the equations: {name: tensor} of parameters and
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


def attention(x, p, name, o):
    d = x.shape[-1]
    heads = int(o["heads"])
    k = d // heads
    qkv = linear(x, p, name + ".qkv")
    future = torch.arange(x.shape[1])[None, :] > torch.arange(x.shape[1])[:, None]
    mixed = []
    for head in range(heads):
        query, key, value = (qkv[..., part * d + head * k: part * d + (head + 1) * k] for part in range(3))
        if o["positions"] == "rotary":
            query, key = rotary(query, float(o["rotary_base"])), rotary(key, float(o["rotary_base"]))
        scores = torch.einsum("btc,bsc->bts", query, key) / math.sqrt(k)
        scores = torch.where(future, torch.full_like(scores, -math.inf), scores)
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


def gmlp_block(x, p, name, o):
    """arXiv 2105.08050, figure 1: U, split, norm and causal W of the gate half, V."""
    length = x.shape[1]
    hidden = gelu(linear(norm(x, p, name + "norm", o), p, name + "expand"))
    half = hidden.shape[-1] // 2
    gate = norm(hidden[..., half:], p, name + "sgu.norm", o)
    weights = torch.tril(p[name + "sgu.weight"][:length, :length])
    gate = torch.einsum("ts,bsc->btc", weights, gate) + p[name + "sgu.bias"][:length, None]
    return x + linear(hidden[..., :half] * gate, p, name + "contract")


BLOCKS = {"gmlp": gmlp_block, "transformer": transformer_block}


def logits(tokens, p, o):
    x = p["embed.weight"][tokens]
    d = x.shape[-1]
    if o["scale_embedding"] == "true":
        x = x * math.sqrt(d)
    if o["positions"] == "learned":
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
