#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whole modules, FX graphs and Lightning checkpoints of the corpus through every command that takes them.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/corpus_edits.py       # after scripts/fetch-corpus

What docs/reference/containers.md allows for such a file is done to it, and to what torch loads of it, whose classes nobody has
(loading.py); both must be equal to the last bit. Lightning checkpoints and the parameters of an FX graph, named by --root, go through
random edits as chains.py makes them; modules get other values, another head, and lose an item.
"""
from __future__ import annotations

import json
import logging
import os
import random
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, Callable, Iterator

import torch
from torch import nn

from chain_edits import CAN_INIT, MAKERS, dropping, new_layer, replacing
from chain_files import Made
from chains import Case, Wrong, ckpt, count, expect, expect_same
from compare import Comparison
from independent import CORPUS, CORPUS_LIST
from loading import load
from state_dicts import attributes_of
from tally import Tally

CHAINS = 4


def files() -> Iterator[tuple[str, str, Path]]:
    """Name, kind and place of each file of these kinds."""
    lines = [line.split("\t") for line in CORPUS_LIST.read_text().splitlines() if not line.startswith("#")][1:]
    for package, version, _, path, _, _, kind, *_ in lines:
        if kind.startswith(("zip/whole-module", "zip/lightning")):
            yield f"{package}-{version}/{Path(path).name}", kind, CORPUS / f"{package}-{version}" / path


def edited(path: Path, folder: Path, command: str, *words: Any) -> Path:
    out = folder / "out.pt"
    done = ckpt(command, path, *words, "-o", out, "-f", "-q", "--no-fsync", "--verify")
    if done.returncode != 0:
        raise Wrong(f"status {done.returncode}: {done.stderr.strip()[:300]}")
    return out


# -- state dicts ------------------------------------------------------------------------------------------------------


def judge_chains(name: str, path: Path, made: Made, makers: list[Any], tally: Tally) -> None:
    """Each kind of edit alone, then some after each other."""
    for number, maker in enumerate(dict.fromkeys(makers)):
        count(tally, name, lambda folder: Case(random.Random(number), folder, path, made, range(1, 2), [maker]))
    for number in range(CHAINS):
        count(tally, name, lambda folder: Case(random.Random(number), folder, path, made, range(2, 6), makers))


def judge_numbers(path: Path, tensors: dict[str, torch.Tensor], *root: str) -> None:
    """What freeze-report counts, when all are said to be parameters."""
    done = ckpt("freeze-report", path, "--json", "--parameters", "**", "--train-last", 2, *root)
    expect("the status", done.returncode, 0)
    said = json.loads(done.stdout)["files"][0]["state_dicts"][0]  # the only one, or the one that --root names
    expect("the names", [tensor["name"] for tensor in said["tensors"]], list(tensors))
    expect("the number of values", said["totals"]["parameters"]["numel"], sum(tensor.numel() for tensor in tensors.values()))
    names = ckpt("freeze-report", path, "-q", "--emit", "names", "--parameters", "**", "--train-last", 2, *root).stdout.splitlines()
    expect("what trains", names, list(tensors)[-2:])


def judge_lightning(name: str, path: Path, tally: Tally) -> None:
    root = load(str(path))
    made = Made(("state_dict",), entries=[(key,) for key in root if key != "state_dict"])
    case(tally, f"{name}: freeze-report", lambda folder: judge_numbers(path, root["state_dict"], "--root", "state_dict"))
    judge_chains(name, path, made, MAKERS, tally)


def judge_graph(name: str, path: Path, tally: Tally) -> None:
    """Of a GraphModule, a function that makes it stands in the file, with its attributes as the argument."""
    def parameters(root: Any) -> dict[str, Any]:
        return vars(root.args[0][0]["_modules"]["initializers"])["_parameters"]

    place = "<args>[0]._modules.initializers@_parameters"
    made = Made((place,), named=(place, parameters))
    case(tally, f"{name}: freeze-report", lambda folder: judge_numbers(path, parameters(load(str(path))), "--root", place))
    judge_chains(name, path, made, [maker for maker in MAKERS if maker not in (dropping, replacing)], tally)

    def drop_item(folder: Path) -> None:
        expected = load(str(path))
        del expected.args[0][0]["training"]
        expect_same("the output", expected, edited(path, folder, "filter-keys", "--drop-entry", "<args>[0].training"))
    case(tally, f"{name}: --drop-entry", drop_item)
    case(tally, f"{name}: convert --state-dict", lambda folder: judge_convert(path, lambda root: root.args[0][0], folder))


# -- modules ----------------------------------------------------------------------------------------------------------


def parameters_of(module: Any, prefix: str = "") -> dict[str, nn.Parameter]:
    """As named_parameters() of a module, which may be a stand-in."""
    own = attributes_of(module)
    found = {prefix + name: parameter for name, parameter in own["_parameters"].items() if parameter is not None}
    for name, child in own["_modules"].items():
        found.update(parameters_of(child, f"{prefix}{name}."))
    return found


def state_of(own: dict[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """As state_dict() of a module with these attributes."""
    buffers = {name: buffer for name, buffer in own["_buffers"].items() if name not in own["_non_persistent_buffers_set"]}
    found = {prefix + name: one.detach() for name, one in {**own["_parameters"], **buffers}.items() if one is not None}
    for name, child in own["_modules"].items():
        found.update(state_of(attributes_of(child), f"{prefix}{name}."))
    return found


def judge_convert(path: Path, attributes: Callable[[Any], dict[str, Any]], folder: Path) -> None:
    """`_metadata` is left out: the versions of classes that nobody has are not known."""
    found = load(str(edited(path, folder, "convert", "--state-dict")))
    differences = Comparison(state_of(attributes(load(str(path)))), dict(found)).differences
    expect("what differs", differences[:3], [])


def judge_module(name: str, path: Path, tally: Tally) -> None:
    names = list(parameters_of(load(str(path))))
    head = names[-1].rpartition(".")[0]

    def merge(folder: Path) -> None:
        """As load_state_dict copies into the parameters that are there, whoever else has them."""
        expected = load(str(path))
        torch.manual_seed(0)
        other = OrderedDict((name, torch.randn(parameter.shape)) for name, parameter in parameters_of(expected).items())
        torch.save(other, folder / "other.pt")
        for name, parameter in parameters_of(expected).items():
            parameter.data = other[name].clone()
        for keys in ("base", "equal"):
            expect_same("the output", expected, edited(path, folder, "merge", folder / "other.pt", "--keys", keys))

    def replace_head(folder: Path) -> None:
        expected = load(str(path))
        layer = attributes_of(expected)["_modules"][head]
        made = new_layer(7 if CAN_INIT else None)(layer.weight.detach(), 11, layer.bias is not None)
        for leaf, values in made.items():
            getattr(layer, leaf).data = values
        layer.out_features = 11
        words = ["--seed", 7] if CAN_INIT else ["--init", "zeros"]
        expect_same("the output", expected, edited(path, folder, "replace-head", "--head", head, "--num-classes", 11, *words))

    def drop_item(folder: Path) -> None:
        expected = load(str(path))
        del attributes_of(expected)["_modules"][head]
        expect_same("the output", expected, edited(path, folder, "filter-keys", "--drop-entry", f"@_modules.{head}"))

    def keys(folder: Path) -> None:
        expect("the keys", ckpt("inspect", "--keys", path).stdout.splitlines(), names)

    case(tally, f"{name}: inspect --keys", keys)
    case(tally, f"{name}: convert --state-dict", lambda folder: judge_convert(path, attributes_of, folder))
    case(tally, f"{name}: freeze-report", lambda folder: judge_numbers(path, parameters_of(load(str(path)))))
    case(tally, f"{name}: merge", merge)
    case(tally, f"{name}: replace-head", replace_head)
    case(tally, f"{name}: --drop-entry", drop_item)


# -- main -------------------------------------------------------------------------------------------------------------


def case(tally: Tally, name: str, judge: Callable[[Path], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            judge(Path(folder))
            problem = None
        except Wrong as error:
            problem = str(error)
    tally.count(name, problem)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("corpus_edits: set CKPT to the ckpt to judge")
    os.environ["CKPT"] = str(Path(os.environ["CKPT"]).absolute())
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    tally = Tally()
    for name, kind, path in files():
        if not path.exists():
            tally.skip(name, "not fetched (scripts/fetch-corpus)")
        elif kind == "zip/lightning":
            judge_lightning(name, path, tally)
        elif kind == "zip/whole-module-fx":
            judge_graph(name, path, tally)
        else:
            judge_module(name, path, tally)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
