# SPDX-License-Identifier: BSD-3-Clause
"""Merge methods in float64, written from their formulas for the judges: slow, plain, and with none of ckpt's code. Tensors are numpy
arrays of float64; what a method returns is not rounded yet.

`reference(method, tensors, parameters, name)`: around a base, tensors[0] is the base. `parameters` has mergekit's names; what is per
file is a list with one value for each file that counts.
"""
from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Callable

import numpy as np

Array = np.ndarray
Parameters = "dict[str, Any]"

AROUND_A_BASE = ("task-arithmetic", "ties", "dare-linear", "dare-ties", "della", "della-linear", "breadcrumbs", "breadcrumbs-ties", "model-stock",
                 "sce", "nearswap", "arcee-fusion", "ram", "ram-plus", "add-difference", "weighted-subtraction", "sum-twice", "triple-sum", "lora")


def dot(a: Array, b: Array) -> float:
    """Without the errors of a sum."""
    return math.fsum((a.reshape(-1) * b.reshape(-1)).tolist())


def norm(a: Array) -> float:
    largest = float(np.max(np.abs(a))) if a.size else 0.0
    if largest == 0 or not math.isfinite(largest):
        return largest
    return math.sqrt(dot(a / largest, a / largest)) * largest


# ---- every file counts


def linear(xs: list[Array], p: Parameters) -> Array:
    weights = p.get("weight", [1.0] * len(xs))
    total = math.fsum(weights)
    result = sum((w * x for w, x in zip(weights, xs)), np.zeros_like(xs[0]))
    return result / total if p.get("normalize", True) else result


def mean(xs: list[Array], p: Parameters) -> Array:
    return linear(xs, {"weight": p.get("weight", [1.0] * len(xs))})


def exact_linear(xs: list[Array], weights: list[float], normalize: bool = True) -> list[Fraction]:
    """As rational numbers."""
    exact = [Fraction(w) for w in weights]
    total = sum(exact) if normalize else Fraction(1)
    return [sum(w * Fraction(float(value)) for w, value in zip(exact, values)) / total for values in zip(*(x.reshape(-1).tolist() for x in xs))]


def spherical(t: float, a: Array, b: Array, cosine: float) -> Array:
    theta = math.acos(max(-1.0, min(1.0, cosine)))
    return math.sin((1 - t) * theta) / math.sin(theta) * a + math.sin(t * theta) / math.sin(theta) * b


def slerp(xs: list[Array], p: Parameters) -> Array:
    a, b = xs
    t, lengths = p["t"], [norm(x) for x in xs]
    cosine = dot(a / (lengths[0] if lengths[0] > 1e-8 else 1), b / (lengths[1] if lengths[1] > 1e-8 else 1))
    return (1 - t) * a + t * b if abs(cosine) > 0.9995 else spherical(t, a, b, cosine)


def nuslerp(xs: list[Array], p: Parameters, base: Array | None = None) -> Array:
    weights = p.get("weight", [1.0, 1.0])
    total = weights[0] + weights[1]
    t = 0.5 if abs(total) < 1e-6 else weights[1] / total
    origin = np.zeros_like(xs[0]) if base is None else base
    a, b = (x - origin for x in xs)

    def one(u: Array, v: Array) -> Array:
        cosine = max(-1.0, min(1.0, dot(u / max(norm(u), 1e-7), v / max(norm(v), 1e-7))))
        return (1 - t) * u + t * v if 1 - cosine**2 <= 1e-16 else spherical(t, u, v, cosine)

    if p.get("nuslerp_flatten", True) or a.ndim == 0:
        return origin + one(a, b)
    axis = 0 if p.get("nuslerp_row_wise", False) else -1
    u, v = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
    if u.size == 0:
        return origin
    rows = [one(x, y) for x, y in zip(u.reshape(-1, u.shape[-1]), v.reshape(-1, v.shape[-1]))]
    return origin + np.moveaxis(np.array(rows).reshape(u.shape), -1, axis)


def multislerp(xs: list[Array], p: Parameters, base: Array | None = None) -> Array:
    eps = p.get("eps", 1e-8)
    origin = np.zeros_like(xs[0]) if base is None else base
    weights = p.get("weight", [1.0] * len(xs))
    if p.get("normalize_weights", True):
        weights = [w / math.fsum(p.get("weight", weights)) for w in weights]
    xs = [x - origin for x in xs]
    lengths = [norm(x) for x in xs]
    units = [x / (length + eps) for x, length in zip(xs, lengths)]
    middle = sum(w * u for w, u in zip(weights, units))
    length = norm(middle)
    if length < eps:
        return origin + weights[0] * xs[0] + weights[1] * xs[1]
    middle = middle / length
    tangent = sum(w * (u - dot(u, middle) * middle) for w, u in zip(weights, units))
    r = norm(tangent) + eps
    return origin + (middle * math.cos(r) + tangent * (math.sin(r) / r)) * math.fsum(w * n for w, n in zip(weights, lengths))


def karcher(xs: list[Array], p: Parameters) -> Array:
    tolerance, steps = p.get("tol", 1e-5), p.get("max_iter", 10)
    lengths = [norm(x) for x in xs]
    units = [x / length for x, length in zip(xs, lengths) if length > tolerance]
    if not units:
        return np.zeros_like(xs[0])
    alpha = 1 / len(units)
    middle = sum(alpha * u for u in units)
    middle = units[0] if norm(middle) < tolerance else middle / norm(middle)
    for _ in range(steps):
        tangent = np.zeros_like(middle)
        for u in units:
            cosine = max(-1.0, min(1.0, dot(middle, u)))
            theta = math.acos(cosine)
            if theta >= tolerance:
                tangent = tangent + alpha * theta / math.sin(theta) * (u - cosine * middle)
        length = norm(tangent)
        if length < tolerance:
            break
        middle = math.cos(length) * middle + math.sin(length) * (tangent / length)
        if norm(middle) > tolerance:
            middle = middle / norm(middle)
    return middle * (math.fsum(lengths) / len(xs))


# ---- around a base


def by_magnitude(delta: Array) -> Array:
    """Positions from the smallest magnitude to the largest; of equal ones the last position first, so that the first is kept."""
    flat = np.abs(delta.reshape(-1))
    return np.lexsort((-np.arange(flat.size), flat))


def at_positions(shape: tuple[int, ...], positions: Array) -> Array:
    mask = np.zeros(math.prod(shape), bool)
    mask[positions] = True
    return mask.reshape(shape)


def largest(delta: Array, density: float) -> Array:
    if density >= 1:
        return np.ones(delta.shape, bool)
    if density <= 0 or delta.size == 0:
        return np.zeros(delta.shape, bool)
    kept = max(1, math.floor(density * delta.size))
    return at_positions(delta.shape, by_magnitude(delta)[delta.size - kept:])


def band(delta: Array, density: float, gamma: float) -> Array:
    if density >= 1:
        return np.ones(delta.shape, bool)
    kept, top = math.floor(density * delta.size), math.floor(gamma * delta.size)
    bottom = max(0, delta.size - kept - top)
    return at_positions(delta.shape, by_magnitude(delta)[bottom:bottom + kept])


MASK64 = 2**64 - 1


def split_mix(key: int, place: int) -> int:
    """SplitMix64 at a place of the stream that begins at `key`."""
    z = (key + (place + 1) * 0x9E3779B97F4A7C15) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


def random_numbers(seed: int, name: str, file: int, shape: tuple[int, ...]) -> Array:
    """From 0 to 1, 32 bits each: of a seed, a tensor's name, a file (BASE is 0) and a place in the tensor."""
    hashed = 0xCBF29CE484222325
    for byte in name.encode("utf-8", "surrogatepass"):
        hashed = ((hashed ^ byte) * 0x100000001B3) & MASK64
    key = split_mix(split_mix(split_mix(0, seed & MASK64) ^ hashed, 0) ^ file, 0)
    count = math.prod(shape)
    pairs = [split_mix(key, place) for place in range((count + 1) // 2)]
    numbers = [half / 2**32 for pair in pairs for half in (pair & 0xFFFFFFFF, pair >> 32)]
    return np.array(numbers[:count]).reshape(shape)


# (consensus of signs, normalize, rescale, how task vectors are thinned)
TASK_ARITHMETIC = {"task-arithmetic": (False, False, False, None), "ties": (True, True, False, "magnitude"), "dare-linear": (False, False, True, "random"),
                   "dare-ties": (True, False, True, "random"), "breadcrumbs": (False, False, False, "band"), "breadcrumbs-ties": (True, False, False, "band"),
                   "della-linear": (False, False, True, "della"), "della": (True, True, True, "della")}


def thinned(kind: str | None, delta: Array, p: Parameters, file: int, random: Array | None, rescale: bool) -> Array:
    density = at(p.get("density", 1.0), file)
    if kind is None or density >= 1:
        return delta
    if kind == "magnitude":
        mask = largest(delta, density)
    elif kind == "band":
        mask = band(delta, density, at(p.get("gamma", 0.01), file))
    elif kind == "random":
        mask = random < density
    else:
        mask = random < della_probabilities(delta, density, at(p.get("epsilon", 0.15), file)) if density > 0 else np.zeros(delta.shape, bool)
    kept = np.where(mask, delta, 0.0)
    if rescale and p.get("rescale_by") == "density":
        return kept / density if density > 0 else kept
    before, after = (math.fsum(np.abs(x).reshape(-1).tolist()) for x in (delta, kept))
    return kept if not rescale or before < 1e-7 or after < 1e-7 else kept * (before / after)


def della_probabilities(delta: Array, density: float, epsilon: float) -> Array:
    """By the rank of a magnitude among those of its row, an index of the first dimension; a vector is one row. Of equal ones the first
    is the largest. A row of one element lies in the middle."""
    rows = np.abs(delta).reshape(delta.shape[0] if delta.ndim > 1 else 1, -1)
    ranks = np.empty(rows.shape)
    for row, magnitudes in zip(ranks, rows):
        row[by_magnitude(magnitudes)] = np.arange(magnitudes.size)
    last = rows.shape[1] - 1
    r = ranks / last if last > 0 else np.full(rows.shape, 0.5)
    return (density - epsilon + 2 * epsilon * r).reshape(delta.shape)


def at(value: Any, file: int) -> float:
    return value[file] if isinstance(value, list) else value


def task_arithmetic(method: str, base: Array, xs: list[Array], p: Parameters, randoms: list[Array] | None) -> Array:
    consensus, normalize, rescale, kind = TASK_ARITHMETIC[method]
    normalize, rescale = p.get("normalize", normalize), p.get("rescale", rescale)
    weights = p.get("weight", [1.0] * len(xs))
    vectors = [w * thinned(kind, x - base, p, i, randoms[i] if randoms else None, rescale) for i, (w, x) in enumerate(zip(weights, xs))]
    if consensus:
        elected = sum(np.sign(v) for v in vectors) if p.get("consensus") == "count" else sum(vectors)
        sign = np.where(elected >= 0, 1.0, -1.0)
        agrees = [np.sign(v) == sign for v in vectors]
        total = sum(np.where(mask, v, 0.0) for mask, v in zip(agrees, vectors))
        divisor = sum(np.where(mask, w, 0.0) for mask, w in zip(agrees, weights))
        divisor = np.where(divisor == 0, 1.0, divisor)
    else:
        total, divisor = sum(vectors), math.fsum(weights)
        divisor = 1.0 if abs(divisor) < 1e-8 else divisor
    return base + p.get("lambda", 1.0) * (total / divisor if normalize else total)


def model_stock(base: Array, xs: list[Array], p: Parameters) -> Array:
    count = len(xs)
    if base.size == 0:
        return base

    def one(b: Array, rows: list[Array]) -> Array:
        deltas = [row - b for row in rows]
        cosines = [max(-1.0, min(1.0, dot(u, v) / max(norm(u) * norm(v), 1e-6))) for i, u in enumerate(deltas) for v in deltas[i + 1:]]
        cosine = math.fsum(cosines) / len(cosines)
        divisor = 1 + (count - 1) * cosine
        t = 0.0 if abs(divisor) < 1e-6 else count * cosine / divisor
        return t * (sum(rows) / count) + (1 - t) * b

    if not p.get("filter_wise", False) or base.ndim < 2:
        return one(base, xs)
    width = base.shape[-1]
    return np.array([one(b, list(rows)) for b, *rows in zip(*(x.reshape(-1, width) for x in [base, *xs]))]).reshape(base.shape)


def sce(base: Array, xs: list[Array], p: Parameters) -> Array:
    if base.size == 0:
        return base
    deltas = np.array([x - base for x in xs])
    topk = p.get("select_topk", 1.0)
    if topk < 1:
        variance = np.var(deltas, axis=0)
        kept = math.floor(topk * np.count_nonzero(variance)) if topk > 0 else 0
        deltas = np.where(at_positions(base.shape, by_magnitude(variance)[base.size - kept:]), deltas, 0.0)
    weights = [dot(d, d) / d.size for d in deltas]
    total = math.fsum(weights)
    weights = [1 / len(xs)] * len(xs) if abs(total) < 1e-6 else [w / total for w in weights]
    agrees = np.sign(deltas) == np.where(deltas.sum(axis=0) >= 0, 1.0, -1.0)
    erased = np.array([w * mask for w, mask in zip(weights, agrees)])
    return base + (deltas * erased).sum(axis=0) / np.maximum(erased.sum(axis=0), 1e-6)


def nearswap(base: Array, xs: list[Array], p: Parameters) -> Array:
    weight = np.clip(p["t"] / np.maximum(np.abs(base - xs[0]), 1e-6), 0, 1)
    return weight * xs[0] + (1 - weight) * base


def softmax(x: Array) -> Array:
    """A number alone is a vector of one."""
    x = np.atleast_1d(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def arcee_fusion(base: Array, xs: list[Array], p: Parameters) -> Array:
    if base.size == 0:
        return base
    x, p1, p0 = xs[0], softmax(xs[0]) + 1e-8, softmax(base) + 1e-8
    importance = np.abs(x - base) * np.sum(p1 * np.log(p1 / p0), axis=-1, keepdims=True)
    flat = np.sort(importance.reshape(-1))
    first, median, third = (flat[int(q * (flat.size - 1))] for q in (0.25, 0.5, 0.75))
    return np.where(importance >= median + 1.5 * (third - first), x, base)


def ram(base: Array, xs: list[Array], p: Parameters, plus: bool = False) -> Array:
    epsilon, r, alpha = p.get("epsilon", 1e-5), p.get("r", 0.1), p.get("alpha", 0.2)
    deltas = [x - base for x in xs]
    active = [np.abs(d) > epsilon for d in deltas]
    count = sum(mask.astype(int) for mask in active)
    result = base.copy()
    for delta, mask in zip(deltas, active):
        unique, shared = mask & (count == 1), mask & (count > 1)
        ratio = np.count_nonzero(shared) / max(np.count_nonzero(unique), epsilon)
        scale = 1 + r * min(max(ratio, 0.0), alpha) if plus else 1.0
        result = result + np.where(unique, delta * scale, 0.0) + np.where(shared, delta / np.maximum(count, 1), 0.0)
    return result


# ---- the methods of stable-diffusion's tools, and adapters


def add_difference(xs: list[Array], alpha: float) -> Array:
    a, b, c = xs
    return a + alpha * (b - c)


def weighted_subtraction(xs: list[Array], alpha: float, beta: float) -> Array:
    a, b = xs
    return (a - alpha * beta * b) / (1 - alpha * beta)


def sum_twice(xs: list[Array], alpha: float, beta: float) -> Array:
    a, b, c = xs
    return (1 - beta) * ((1 - alpha) * a + alpha * b) + beta * c


def triple_sum(xs: list[Array], alpha: float, beta: float) -> Array:
    a, b, c = xs
    return (1 - alpha - beta) * a + alpha * b + beta * c


def lora(weight: Array, down: Array, up: Array, scale: float) -> Array:
    """`down` is lora_A, `up` is lora_B; kernels of 1×1 are matrices."""
    product = up.reshape(up.shape[0], -1) @ down.reshape(down.shape[0], -1)
    return weight + scale * product.reshape(weight.shape)


# ---- by name


def merged(method: str, tensors: list[Array], p: Parameters, name: str, randoms: list[Array] | None = None) -> Array:
    """Of tensors in the order of the files, BASE first."""
    base, others = tensors[0], tensors[1:]
    if method in TASK_ARITHMETIC:
        return task_arithmetic(method, base, others, p, randoms)
    if method in ("nuslerp", "multislerp"):
        function = nuslerp if method == "nuslerp" else multislerp
        return function(others, p, base) if p.get("base") else function(tensors, p)
    every_file: dict[str, Callable[[list[Array], Parameters], Array]] = {"mean": mean, "linear": linear, "slerp": slerp, "karcher": karcher}
    if method in every_file:
        return every_file[method](tensors, p)
    around: dict[str, Callable[[Array, list[Array], Parameters], Array]] = {
        "model-stock": model_stock, "sce": sce, "nearswap": nearswap, "arcee-fusion": arcee_fusion, "ram": ram,
        "ram-plus": lambda b, xs, p: ram(b, xs, p, plus=True)}
    if method in around:
        return around[method](base, others, p)
    alpha, beta = p.get("alpha", 1.0), p.get("beta", 0.0)
    if method == "add-difference":
        return add_difference(tensors, alpha)
    return {"weighted-subtraction": weighted_subtraction, "sum-twice": sum_twice, "triple-sum": triple_sum}[method](tensors, alpha, beta)
