#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""mergekit and PEFT against `ckpt merge --method`, on tiny random transformers: every method in three dtypes, run by both from files.

    CKPT=build/dev/apps/ckpt $(scripts/install-mergekit) tests/judge/mergekit_judge.py [--table FILE]

Distances are units in the last place (of the larger of the result's and the base's value) from the result in float64, unrounded
(merge_reference.py). ckpt has to be within half a unit and a little; mergekit is as far away as its own rounding puts it. Where a method
chooses elements, mergekit breaks ties otherwise and compares rounded values: elements that are many units apart are counted and left
out of the distance. Masks that are drawn by chance have nothing in common but their share.
"""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

import merge_reference as reference
from merge_methods import numbers
from tally import Tally

PRECISION = {torch.float32: 24, torch.bfloat16: 8, torch.float16: 11}
LEAST = {torch.float32: -149, torch.bfloat16: -133, torch.float16: -24}
APART = 64  # units: more is another choice
CLOSE = 0.5 + 2.0**-10  # units from the unrounded result
Model = "dict[str, torch.Tensor]"


@dataclass
class Case:
    method: str
    models: int = 3  # the base too
    weights: list[float] | None = None  # of those that count
    parameters: dict[str, Any] = field(default_factory=dict)
    has_base: bool = True

    @property
    def name(self) -> str:
        return self.method.replace("_", "-").replace("ramplus-tl", "ram-plus")

    def __str__(self) -> str:
        told = [f"{key} {','.join(map(str, value)) if isinstance(value, tuple) else value}" for key, value in self.parameters.items()]
        return ", ".join([self.name, *([f"weight {','.join(map(str, self.weights))}"] if self.weights else []), *told])


CASES = [Case("linear", weights=[1, 2, 0.5], has_base=False), Case("linear", weights=[1, 2, 0.5], parameters={"normalize": False}, has_base=False),
         Case("slerp", 2, parameters={"t": 0.3}), Case("slerp", 2, parameters={"t": [0, 0.5, 1]}), Case("nuslerp", 2, [0.4, 0.8], has_base=False),
         Case("nuslerp", 3, [0.4, 0.8]), Case("nuslerp", 2, [0.4, 0.8], {"nuslerp_flatten": False}, has_base=False), Case("multislerp", weights=[1, 2, 0.5], has_base=False),
         Case("karcher", has_base=False), Case("task_arithmetic", weights=[0.7, 0.6]), Case("task_arithmetic", weights=[0.7, 0.6], parameters={"lambda": 0.5, "normalize": True}),
         Case("ties", weights=[0.7, 0.6], parameters={"density": 0.4}), Case("breadcrumbs", weights=[0.7, 0.6], parameters={"density": 0.4, "gamma": 0.02}),
         Case("breadcrumbs", weights=[0.7, 0.6], parameters={"density": (0.4, 0.6), "gamma": (0.02, 0.2)}),
         Case("breadcrumbs_ties", weights=[0.7, 0.6], parameters={"density": 0.4}), Case("dare_linear", weights=[0.7, 0.6], parameters={"density": 0.4}),
         Case("dare_ties", weights=[0.7, 0.6], parameters={"density": 0.4}), Case("della", weights=[0.7, 0.6], parameters={"density": 0.4}),
         Case("della", weights=[0.7, 0.6], parameters={"density": (0.4, 0.6), "epsilon": (0.3, 0.05)}),
         Case("della_linear", weights=[0.7, 0.6], parameters={"density": 0.4}), Case("model_stock"), Case("model_stock", 4), Case("sce"),
         Case("sce", parameters={"select_topk": 0.3}), Case("nearswap", 2, parameters={"t": 0.001}), Case("arcee_fusion", 2), Case("ram"), Case("ramplus_tl")]
PER_MODEL = ("density", "gamma", "epsilon")  # a tuple has one for each


def ulps(a: np.ndarray, b: np.ndarray, base: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    _, exponent = np.frexp(np.maximum(np.abs(b), np.abs(base)))
    return np.abs(a - b) / np.ldexp(1.0, np.maximum(exponent - PRECISION[dtype], LEAST[dtype]))


def make_models(folder: Path, count: int) -> list[Path]:
    """A base and what slightly different trainings would make of it."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=192, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                         max_position_embeddings=64, tie_word_embeddings=False)
    base = LlamaForCausalLM(config).double()
    paths = []
    for number in range(count):
        model = LlamaForCausalLM(config).double()
        for (_, parameter), (_, origin) in zip(model.named_parameters(), base.named_parameters()):
            change = torch.randn_like(origin) * origin.std().nan_to_num(1.0).clamp(min=0.02) * 0.3
            parameter.data.copy_(origin.data if number == 0 else origin.data + change)
        paths.append(folder / f"m{number}")
        model.save_pretrained(paths[-1])
    return paths


def as_dtype(paths: list[Path], dtype: torch.dtype, folder: Path) -> list[Path]:
    out = []
    for path in paths:
        target = folder / f"{path.name}-{str(dtype)[6:]}"
        target.mkdir()
        shutil.copy(path / "config.json", target)
        config = json.loads((target / "config.json").read_text())
        config["dtype"] = config["torch_dtype"] = str(dtype)[6:]
        (target / "config.json").write_text(json.dumps(config))
        state = load_file(path / "model.safetensors")
        save_file({key: tensor.to(dtype) for key, tensor in state.items()}, target / "model.safetensors", metadata={"format": "pt"})
        out.append(target)
    return out


def by_mergekit(case: Case, models: list[Path], folder: Path) -> Model:
    counting = models[1:] if case.has_base and case.method != "slerp" else models
    entries = []
    for index, model in enumerate(counting):
        parameters = {key: value[index] if isinstance(value, tuple) else value for key, value in case.parameters.items()
                      if key in PER_MODEL and case.method not in ("ram", "ramplus_tl")}
        if case.weights:
            parameters["weight"] = case.weights[index]
        entries.append({"model": str(model), **({"parameters": parameters} if parameters else {})})
    recipe: dict[str, Any] = {"merge_method": case.method, "models": entries,
                              "parameters": {key: value for key, value in case.parameters.items() if key not in PER_MODEL}}
    if case.has_base:
        recipe["base_model"] = str(models[0])
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(1)
    run_merge(MergeConfiguration.model_validate(yaml.safe_load(yaml.safe_dump(recipe))), str(folder),
              MergeOptions(copy_tokenizer=False, quiet=True, write_model_card=False))
    merged: Model = {}
    for file in sorted(folder.glob("*.safetensors")):
        merged.update(load_file(file))
    return merged


def by_ckpt(case: Case, models: list[Path], out: Path) -> Model:
    arguments = [f"{model}/model.safetensors" for model in models] + ["--method", case.name]
    if case.weights:
        arguments += ["--weights", ",".join(map(str, case.weights))]
    for key, value in case.parameters.items():
        text = {True: "yes", False: "no"}.get(value, json.dumps(value).replace(" ", "")) if isinstance(value, bool) else json.dumps(value).replace(" ", "")
        arguments += ["--param", f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else text}"]
    if case.name in ("nuslerp", "multislerp") and case.has_base:
        arguments += ["--around-base"]
    done = subprocess.run([os.environ["CKPT"], "merge", *arguments, "-q", "-f", "-o", str(out)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return load_file(out)


def depth_of(key: str) -> float:
    if ".layers." in key:
        return int(key.split(".layers.")[1].split(".")[0]) / 2
    return 0.0


def references(case: Case, models: list[Model], key: str) -> np.ndarray:
    values = [numbers(model[key]) for model in models]
    parameters = {name: list(value) if isinstance(value, tuple) else value for name, value in case.parameters.items()}
    if case.weights:
        parameters["weight"] = case.weights
    if isinstance(parameters.get("t"), list):
        parameters["t"] = float(np.interp(depth_of(key), [0, 0.5, 1], parameters["t"]))
    if case.name in ("nuslerp", "multislerp"):
        parameters["base"] = case.has_base
    randoms = [reference.random_numbers(0, key, file, values[0].shape) for file in range(1, len(values))] if is_random(case) else None
    return reference.merged(case.name, values, parameters, key, randoms)


def is_random(case: Case) -> bool:
    return case.name.startswith(("dare", "della"))


def compare(case: Case, dtype: torch.dtype, paths: list[Path], scratch: Path, tally: Tally) -> str:
    """A row of the table."""
    models = [load_file(path / "model.safetensors") for path in paths]
    theirs = by_mergekit(case, paths, scratch / "mergekit")
    ours = by_ckpt(case, paths, scratch / "ckpt.safetensors")
    largest = {"apart": 0.0, "ckpt": 0.0, "mergekit": 0.0}
    total = chosen = 0
    kept = {"ckpt": 0, "mergekit": 0}
    problem = None if set(theirs) == set(ours) else f"keys {set(theirs) ^ set(ours)}"
    for key in models[0] if problem is None else ():
        want, base = references(case, models, key), numbers(models[0][key])
        ckpt, mergekit = numbers(ours[key]), numbers(theirs[key])
        total += want.size
        kept["ckpt"] += np.count_nonzero(ckpt != base)
        kept["mergekit"] += np.count_nonzero(mergekit != base)
        own = ulps(ckpt, want, base, dtype)
        largest["ckpt"] = max(largest["ckpt"], float(own.max()))
        if own.max() > CLOSE:
            problem = problem or f"{key} is {own.max():.3f} units from the reference"
        if is_random(case):
            continue
        apart, distance = ulps(ckpt, mergekit, base, dtype), ulps(mergekit, want, base, dtype)
        same = (apart <= APART) & (distance <= APART)
        chosen += int(np.count_nonzero(~same))
        largest["apart"] = max(largest["apart"], float(apart[same].max(initial=0)))
        largest["mergekit"] = max(largest["mergekit"], float(distance[same].max(initial=0)))
    tally.count(f"{case}, {dtype}", problem)
    name = str(dtype)[6:]
    if is_random(case):
        share = " against ".join(f"{kept[who] / total:.4f}" for who in ("ckpt", "mergekit"))
        return f"| {case} | {name} | – | {largest['ckpt']:.2f} | – | changed: {share} |"
    return f"| {case} | {name} | {largest['apart']:.3g} | {largest['ckpt']:.2f} | {largest['mergekit']:.3g} | {chosen} of {total} |"


def judge_peft(scratch: Path, paths: list[Path], dtype: torch.dtype, tally: Tally) -> str:
    """An adapter that peft made, merged by both."""
    from peft import LoraConfig, get_peft_model
    torch.manual_seed(2)
    model = LlamaForCausalLM.from_pretrained(paths[0], dtype=dtype)
    config = LoraConfig(r=4, lora_alpha=10, target_modules=["q_proj", "v_proj", "down_proj", "embed_tokens"], modules_to_save=["norm"])
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.05)
        elif parameter.requires_grad:
            parameter.data.add_(0.1)
    base = {key: tensor.clone() for key, tensor in load_file(paths[0] / "model.safetensors").items()}
    adapted.save_pretrained(scratch / "adapter")
    adapter = load_file(scratch / "adapter" / "adapter_model.safetensors")
    done = subprocess.run([os.environ["CKPT"], "merge", f"{paths[0]}/model.safetensors", str(scratch / "adapter" / "adapter_model.safetensors"), "--method", "lora",
                           "-q", "-f", "-o", str(scratch / "lora.safetensors")], capture_output=True, text=True)
    merged = adapted.merge_and_unload().state_dict()
    problem = done.stderr.strip() or None
    largest = {"apart": 0.0, "ckpt": 0.0, "peft": 0.0}
    for key, tensor in (load_file(scratch / "lora.safetensors").items() if problem is None else ()):
        want = numbers(base[key])
        module = "base_model.model." + key.removesuffix(".weight")
        for a, b, turned in ((f"{module}.lora_A.weight", f"{module}.lora_B.weight", False), (f"{module}.lora_embedding_A", f"{module}.lora_embedding_B", True)):
            if a in adapter:
                product = 10 / 4 * (numbers(adapter[b]) @ numbers(adapter[a]))
                want = want + (product.T if turned else product)
        if f"{module}.weight" in adapter:
            want = numbers(adapter[f"{module}.weight"])
        here = numbers(base[key])
        for name, pair in {"apart": (numbers(tensor), numbers(merged[key])), "ckpt": (numbers(tensor), want), "peft": (numbers(merged[key]), want)}.items():
            largest[name] = max(largest[name], float(ulps(*pair, here, dtype).max()))
    if problem is None and largest["ckpt"] > CLOSE:
        problem = f"{largest['ckpt']} units from the reference"
    tally.count(f"lora, {dtype}", problem)
    return f"| lora (PEFT), r 4, alpha 10 | {str(dtype)[6:]} | {largest['apart']:.3g} | {largest['ckpt']:.2f} | {largest['peft']:.3g} | |"


def main() -> int:
    torch.set_num_threads(1)
    table = sys.argv[2] if sys.argv[1:2] == ["--table"] else None
    tally, rows = Tally(), ["| method | dtype | ckpt from mergekit | ckpt from float64 | mergekit from float64 | elements chosen otherwise |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        whole = make_models(scratch, 4)
        for dtype in PRECISION:
            paths = as_dtype(whole, dtype, scratch)
            for case in CASES:
                rows.append(compare(case, dtype, paths[:case.models], scratch, tally))
                print(rows[-1], file=sys.stderr, flush=True)
            rows.append(judge_peft(scratch, paths, dtype, tally))
            shutil.rmtree(scratch / "adapter")
    text = "\n".join(rows) + "\n"
    if table:
        Path(table).write_text(text)
    else:
        print(text)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
