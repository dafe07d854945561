# SPDX-License-Identifier: BSD-3-Clause
"""Judges how optimizer state follows edits, with the torch that runs this: train, save, edit, load, and take one more step.

    CKPT=build/dev/apps/ckpt $(scripts/install-torch 2.15.0) tests/judge/optimizer_judge.py [--rounds N]

A case is a model, the optimizer that trained it, and an edit. The model that is left gets a new optimizer of the same groups, which
loads what ckpt wrote. It must then hold the same and take the same step, to the last bit, as an optimizer whose state was carried
over parameter by parameter in Python. What nobody can know must be refused. Random cases may be refused only if they have neither
names nor shapes to tell parameters by. A failing case is one line; the last line counts.
"""
from __future__ import annotations

import argparse
import copy
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, NamedTuple

import torch
from torch import nn

from changed_rows import tool
from tally import Tally

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
HAS_NAMES = TORCH >= (2, 6)  # named parameters leave param_names in the state
STEPS = 2
DISTRIBUTED = "names for indices"  # as torch.distributed.checkpoint gives the state

try:
    import torch.distributed.checkpoint.state_dict as dcp
except ImportError:
    dcp = None

Shapes = dict[str, tuple[int, ...]]
Groups = list[list[str]]


class Bag(nn.Module):
    """A model of parameters alone, by their names; `tied` are further names of some; BatchNorm-like buffers besides."""

    def __init__(self, shapes: Shapes, tied: dict[str, str] | None = None, buffers: bool = True) -> None:
        super().__init__()
        found: dict[str, nn.Parameter] = {}
        for name, shape in shapes.items():
            parent, leaf = self.parent_of(name)
            owner = (tied or {}).get(name)
            found[name] = found[owner] if owner in found else nn.Parameter(torch.randn(shape))
            parent.register_parameter(leaf, found[name])
            if buffers and not hasattr(parent, "running_mean"):
                parent.register_buffer("running_mean", torch.randn(3))
                parent.register_buffer("num_batches_tracked", torch.tensor(7))

    def parent_of(self, name: str) -> tuple[nn.Module, str]:
        *path, leaf = name.split(".")
        module: nn.Module = self
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        return module, leaf


def make_optimizer(kind: str, model: nn.Module, groups: Groups, named: bool) -> torch.optim.Optimizer:
    """An optimizer of `groups` of names. The groups' learning rates differ."""
    of = dict(model.named_parameters())
    settings: dict[str, dict[str, Any]] = {
        "sgd": {"momentum": 0.9}, "plain sgd": {}, "nesterov": {"momentum": 0.9, "nesterov": True}, "adam": {}, "adamw": {"amsgrad": True},
        "rmsprop": {"momentum": 0.5, "centered": True}, "adagrad": {}, "adadelta": {}, "nadam": {}, "asgd": {}, "rprop": {}, "adamax": {},
        "radam": {}, "adafactor": {}}
    classes = {"plain sgd": "SGD", "sgd": "SGD", "nesterov": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop",
               "adagrad": "Adagrad", "adadelta": "Adadelta", "nadam": "NAdam", "asgd": "ASGD", "rprop": "Rprop", "adamax": "Adamax",
               "radam": "RAdam", "adafactor": "Adafactor"}
    parameters = [{"params": [(name, of[name]) if named else of[name] for name in group], "lr": 0.01 * (i + 1)}
                  for i, group in enumerate(groups)]
    return getattr(torch.optim, classes[kind])(parameters, lr=0.01, **settings[kind])


def step(optimizer: torch.optim.Optimizer, model: nn.Module, frozen: set[str], seed: int) -> None:
    """One step on random gradients, which depend on the parameter's name alone."""
    for name, parameter in model.named_parameters():
        generator = torch.Generator().manual_seed(seed * 1000 + sum(map(ord, name)) % 1000)
        parameter.grad = None if name in frozen else torch.randn(parameter.shape, generator=generator)
    optimizer.step()


class Case(NamedTuple):
    name: str
    shapes: Shapes
    groups: Groups  # by names; parameters in none of them are frozen
    drop: list[str]
    kind: str = "adam"
    named: bool = False
    untrained: set[str] = set()  # in the optimizer, but without a gradient
    tied: dict[str, str] = {}  # name -> the name that it is tied to
    options: list[str] = []
    save: Callable[[Any, str], None] = torch.save
    layout: str = "plain"


def legacy(value: Any, path: str) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def protocol4(value: Any, path: str) -> None:
    torch.save(value, path, pickle_protocol=4)


def lay_out(layout: str, model: Any, optimizer: Any) -> Any:
    """A training checkpoint as different programs write it."""
    if layout == "lightning":
        return {"epoch": 3, "state_dict": model, "optimizer_states": [optimizer], "lr_schedulers": [], "loops": {}}
    if layout == "with average":
        return {"model": model, "model_ema": {key: value.clone() for key, value in model.items()}, "optimizer": optimizer}
    return {"model": model, "optimizer": optimizer, "epoch": 3}


def parts_of(layout: str, checkpoint: Any) -> tuple[Any, Any]:
    if layout == "lightning":
        return checkpoint["state_dict"], checkpoint["optimizer_states"][0]
    return checkpoint["model"], checkpoint["optimizer"]


def load(path: str) -> Any:
    return torch.load(path, **({"weights_only": False} if TORCH >= (1, 13) else {}))


def run(arguments: list[str]) -> tuple[int, str]:
    result = subprocess.run([os.environ["CKPT"], *arguments], capture_output=True, text=True, timeout=60)
    return result.returncode, result.stderr


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    if isinstance(expected, torch.Tensor):
        same = isinstance(actual, torch.Tensor) and expected.dtype == actual.dtype and torch.equal(expected, actual)
        return [] if same else [f"{path} differs"]
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or list(expected) != list(actual):
            return [f"{path} has the keys {list(actual)}, expected {list(expected)}"]
        return [found for key in expected for found in differences(expected[key], actual[key], f"{path}.{key}")]
    if isinstance(expected, (list, tuple)):
        if not isinstance(actual, (list, tuple)) or len(expected) != len(actual):
            return [f"{path} is {actual}, expected {expected}"]
        return [found for i, pair in enumerate(zip(expected, actual)) for found in differences(*pair, f"{path}[{i}]")]
    return [] if type(expected) is type(actual) and expected == actual else [f"{path} is {actual!r}, expected {expected!r}"]


def all_names(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(f"{prefix}.{leaf}" if prefix else leaf, parameter) for prefix, module in model.named_modules()
            for leaf, parameter in module._parameters.items()]


def by_order(state: dict[str, Any]) -> dict[str, Any]:
    """The order of an optimizer's state is that in which parameters were first trained; carrying it over says nothing of it."""
    return {**state, "state": dict(sorted(state["state"].items()))}


class Trained:
    """A model after some steps, and its checkpoint in a file."""

    def __init__(self, case: Case, path: str, wrap: Callable[[nn.Module], nn.Module] = lambda model: model) -> None:
        torch.manual_seed(1)
        self.model = wrap(Bag(case.shapes, case.tied))
        self.optimizer = make_optimizer(case.kind, self.model, case.groups, case.named)
        frozen = case.untrained | (set(dict(self.model.named_parameters())) - {name for group in case.groups for name in group})
        for seed in range(STEPS):
            step(self.optimizer, self.model, frozen, seed)
        state = dcp.get_optimizer_state_dict(self.model, self.optimizer) if case.layout == DISTRIBUTED else self.optimizer.state_dict()
        case.save(lay_out(case.layout, self.model.state_dict(), state), path)


def carried(trained: Trained, old_groups: list[dict[str, Any]], optimizer: torch.optim.Optimizer, model: nn.Module,
            old_name: Callable[[str], str], reset: set[str]) -> None:
    """The state of each parameter that is left, by name, and the settings of each group."""
    of = dict(all_names(trained.model))
    for name, parameter in model.named_parameters():
        if of[old_name(name)] in trained.optimizer.state and name not in reset:
            optimizer.state[parameter] = copy.deepcopy(trained.optimizer.state[of[old_name(name)]])
    for before, after in zip(old_groups, optimizer.param_groups):
        after.update({key: value for key, value in before.items() if key not in ("params", "param_names")})


def load_state(case: Case, optimizer: torch.optim.Optimizer, model: nn.Module, state: dict[str, Any]) -> None:
    if case.layout == DISTRIBUTED:
        dcp.set_optimizer_state_dict(model, optimizer, state)
    else:
        optimizer.load_state_dict(state)


def problem_after(case: Case, trained: Trained, path: str, shapes: Shapes, groups: Groups, *, tied: dict[str, str] | None = None,
                  old_name: Callable[[str], str] = lambda name: name, reset: set[str] = frozenset()) -> str | None:
    """Whether the model of `shapes`, with the file's state, trains on like one whose state was carried by hand."""
    model_state, optimizer_state = parts_of(case.layout, load(path))
    old_groups = trained.optimizer.param_groups
    if case.named:  # torch makes no group of names that is empty: what is left of one is compared here
        if [group["param_names"] for group in optimizer_state["param_groups"]] != groups:
            return f"param_names are {[group['param_names'] for group in optimizer_state['param_groups']]}, expected {groups}"
        filled = [i for i, group in enumerate(groups) if group]
        groups, old_groups = [groups[i] for i in filled], [old_groups[i] for i in filled]
        optimizer_state["param_groups"] = [optimizer_state["param_groups"][i] for i in filled]
    if not groups:
        return "state is left without groups" if optimizer_state["state"] else None
    left = [name for group in groups for name in group]
    untrained = {name for name in left if old_name(name) in case.untrained}

    def trained_on(prepare: Callable[[torch.optim.Optimizer, nn.Module], None]) -> tuple[Any, Any]:
        torch.manual_seed(2)
        model = Bag(shapes, tied)
        missing, unexpected = model.load_state_dict(model_state, strict=False)
        if any("running" not in key and "num_batches" not in key for key in [*missing, *unexpected]):
            raise ValueError(f"the file's model has other keys: {missing} missing, {unexpected} too many")
        optimizer = make_optimizer(case.kind, model, groups, case.named)
        prepare(optimizer, model)
        before = by_order(copy.deepcopy(optimizer.state_dict()))
        step(optimizer, model, untrained | (set(dict(model.named_parameters())) - set(left)), 77)
        return before, (model.state_dict(), by_order(optimizer.state_dict()))

    expected = trained_on(lambda optimizer, model: carried(trained, old_groups, optimizer, model, old_name, reset))
    found = trained_on(lambda optimizer, model: load_state(case, optimizer, model, optimizer_state))
    return "; ".join(differences(expected, found, "after one step: ")[:3]) or None


def judge_filter(case: Case, scratch: Path, may_refuse: bool | None) -> str | None:
    """`may_refuse`: None where it has to."""
    source, target = str(scratch / "in.pt"), str(scratch / "out.pt")
    trained = Trained(case, source)
    patterns = [part for name in case.drop for part in ("--drop", "=" + name)]
    Path(target).unlink(missing_ok=True)
    status, said = run(["filter-keys", *patterns, *case.options, source, "-o", target, "--no-fsync"])
    if status == 2 and "can't follow" in said and not Path(target).exists():
        return None if may_refuse in (None, True) else f"refused: {said.splitlines()[0]}"
    if status != 0:
        return f"status {status}: {said}"
    if may_refuse is None:
        return "should be refused"
    shapes = {name: shape for name, shape in case.shapes.items() if name not in case.drop}
    groups = [[name for name in group if name not in case.drop] for group in case.groups]
    tied = {name: owner for name, owner in case.tied.items() if owner in shapes}
    return problem_after(case, trained, target, shapes, groups, tied=tied)


# -- the cases --------------------------------------------------------------------------------------------------------

DISTINCT: Shapes = {"stem.weight": (3, 2), "stem.bias": (3,), "mid.0.weight": (4, 3), "mid.0.bias": (4,), "fc.weight": (5, 4), "fc.bias": (5,)}
ALIKE: Shapes = {"stem.weight": (3, 3), "stem.bias": (3,), "mid.0.weight": (3, 3), "mid.0.bias": (3,), "fc.weight": (2, 3), "fc.bias": (2,)}
MIDDLE = ["mid.0.weight", "mid.0.bias"]


def by_decay(shapes: Shapes) -> Groups:
    return [[name for name in shapes if name.endswith("weight")], [name for name in shapes if name.endswith("bias")]]


def judge_cases(tally: Tally, scratch: Path) -> None:
    def judge(case: Case, may_refuse: bool | None = False) -> None:
        if case.named and not HAS_NAMES or case.kind == "adafactor" and not hasattr(torch.optim, "Adafactor"):
            return
        try:
            problem = judge_filter(case, scratch, may_refuse)
        except Exception as error:  # any failure to load or train is the finding
            problem = f"{type(error).__name__}: {error}"
        tally.count(f"{case.name}, {case.kind}{', named' if case.named else ''}", problem)

    assume = ["--optimizer", "remap=model-order"]
    kinds = ["sgd", "plain sgd", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "nadam", "asgd", "rprop", "adamax",
             "radam"]
    for kind in kinds:
        has_state = kind != "plain sgd"
        for named in (False, True):
            proven = False if named or has_state else None
            judge(Case("one group", DISTINCT, [list(DISTINCT)], MIDDLE, kind, named), proven)
            judge(Case("groups by decay", DISTINCT, by_decay(DISTINCT), MIDDLE, kind, named), proven)
            judge(Case("frozen parameters", DISTINCT, [["stem.bias", "mid.0.bias", "fc.weight", "fc.bias"]], MIDDLE, kind, named), proven)
            judge(Case("one group alike", ALIKE, [list(ALIKE)], MIDDLE, kind, named), False if named else None)
            judge(Case("groups by decay, alike", ALIKE, by_decay(ALIKE), MIDDLE, kind, named), False if named else None)
        judge(Case("one group alike, order taken", ALIKE, [list(ALIKE)], MIDDLE, kind, options=assume))
        judge(Case("groups alike, order not to be taken", ALIKE, by_decay(ALIKE), MIDDLE, kind, options=assume), None)
    swapped: Shapes = {"a.weight": (3, 3), "b.weight": (3, 3), "c.weight": (2, 2)}
    for options in ([], assume):
        judge(Case(f"groups [b, a] of equal shapes {options}", swapped, [["b.weight"], ["a.weight"]], ["a.weight"],
                   options=options), None)
        judge(Case(f"groups [b, a] and another {options}", swapped, [["b.weight"], ["a.weight", "c.weight"]], ["c.weight"],
                   options=options), None)
    judge(Case("groups [b, a], a goes", swapped, [["b.weight"], ["a.weight"]], ["a.weight"], named=True))
    judge(Case("groups [b, a], b goes", swapped, [["b.weight"], ["a.weight", "c.weight"]], ["b.weight"], named=True))
    judge(Case("groups [c, a], told by shapes", {"a.weight": (3, 3), "b.weight": (2, 3), "c.weight": (2, 2)},
               [["c.weight"], ["a.weight", "b.weight"]], ["c.weight"]))
    judge(Case("nothing that was trained goes", DISTINCT, [["fc.bias", "fc.weight"]], MIDDLE))
    judge(Case("all that was trained goes", DISTINCT, [["fc.weight"], ["fc.bias", "stem.bias"]], ["fc.weight", "fc.bias"]))
    for named in (False, True):
        untrained = {"stem.weight", "mid.0.bias"}
        judge(Case("parameters without state", DISTINCT, [list(DISTINCT)], MIDDLE, named=named, untrained=untrained),
              False if named else None)
        judge(Case("parameters without state, order taken", DISTINCT, [list(DISTINCT)], MIDDLE, named=named, untrained=untrained,
                   options=assume))
        scalar: Shapes = {"scale": (), "a.weight": (2,), "b.weight": (3,)}
        judge(Case("a parameter without dimensions", scalar, [list(scalar)], ["a.weight"], named=named))
        judge(Case("a parameter without dimensions goes", scalar, [list(scalar)], ["scale"], named=named))
        tied = {"out.weight": "in.weight"}
        words: Shapes = {"in.weight": (7, 3), "mid.weight": (3, 3), "out.weight": (7, 3), "out.bias": (7,)}
        trained = [["in.weight", "mid.weight", "out.bias"]]
        judge(Case("tied keys", words, trained, ["mid.weight"], named=named, tied=tied))
        judge(Case("a tied key goes", words, trained, ["out.weight"], named=named, tied=tied))
        judge(Case("the first of tied keys goes", words, trained, ["in.weight"], named=named, tied=tied), None)
        judge(Case("tied keys go", words, trained, ["in.weight", "out.weight"], named=named, tied=tied))
        for save in (torch.save, legacy, protocol4):
            for layout in ("plain", "lightning", "with average"):
                judge(Case(f"{layout}, {save.__name__}", DISTINCT, by_decay(DISTINCT), MIDDLE, "adamw", named, save=save, layout=layout))
    for kind in ("sgd", "adam", "adamw") if dcp else ():
        for groups in ([list(ALIKE)], by_decay(ALIKE), [["fc.bias", "mid.0.weight", "stem.weight"]]):
            judge(Case("names for indices", ALIKE, groups, MIDDLE, kind, layout=DISTRIBUTED))
    if not dcp:
        tally.skip("names for indices", f"torch {torch.__version__} gives none")
    judge(Case("factors", DISTINCT, by_decay(DISTINCT), MIDDLE, "adafactor", True))
    judge(Case("factors", DISTINCT, by_decay(DISTINCT), MIDDLE, "adafactor"), None)


def judge_lbfgs(tally: Tally, scratch: Path) -> None:
    """Its state is one for all parameters."""
    for named in (False, True)[:1 + HAS_NAMES]:
        model = Bag(DISTINCT)
        optimizer = torch.optim.LBFGS(list(model.named_parameters()) if named else list(model.parameters()))
        optimizer.step(lambda: sum((parameter ** 2).sum() for parameter in model.parameters()).backward() or torch.tensor(1.0))
        source, target = str(scratch / "lbfgs.pt"), scratch / "lbfgs-out.pt"
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, source)
        for options in ([], ["--optimizer", "remap=model-order"]):
            status, said = run(["filter-keys", "--drop", "mid", *options, source, "-o", str(target)])
            refused = status == 2 and "can't follow" in said and not target.exists()
            tally.count(f"LBFGS{', named' if named else ''} {options}", None if refused else f"should be refused: {status} {said}")


def judge_wrappers(tally: Tally, scratch: Path) -> None:
    """Names are stripped and renamed with the keys, and no state moves."""
    if not HAS_NAMES:
        tally.skip("names in optimizers", f"torch {torch.__version__} keeps none")
        return
    source, target = str(scratch / "wrapped.pt"), str(scratch / "stripped.pt")
    for save in (torch.save, legacy, protocol4):
        wrapped_groups = [["module." + name for name in group] for group in by_decay(ALIKE)]
        case = Case("strip", ALIKE, wrapped_groups, [], named=True, save=save)
        trained = Trained(case, source, nn.DataParallel)
        for command, groups, old_name, shapes in [
                (["strip-dataparallel"], by_decay(ALIKE), lambda name: "module." + name, ALIKE),
                (["rename-keys", "--strip-prefix", "module.", "--map", "stem=trunk"],
                 [[name.replace("stem", "trunk") for name in group] for group in by_decay(ALIKE)],
                 lambda name: "module." + name.replace("trunk", "stem"),
                 {name.replace("stem", "trunk"): shape for name, shape in ALIKE.items()})]:
            status, said = run([*command, source, "-o", target, "-f", "--no-fsync"])
            problem = f"status {status}: {said}" if status else problem_after(case, trained, target, shapes, groups, old_name=old_name)
            tally.count(f"{command}, {save.__name__}", problem)


def judge_reset(tally: Tally, scratch: Path) -> None:
    """A head of another shape, put in by rows: its state goes, its index stays."""
    if not tool().exists():
        tally.skip("parameters of another shape", "there is no ckpt_rows_tool")
        return
    source, target, blob = scratch / "in.pt", scratch / "reset.pt", scratch / "bytes"
    blob.write_bytes(torch.arange(100, dtype=torch.float32).numpy().tobytes())
    for kind in ("sgd", "adam", "adamw"):
        for named in (False, True)[:1 + HAS_NAMES]:
            for save in (torch.save, legacy):
                case = Case("head", DISTINCT, by_decay(DISTINCT), [], kind, named, save=save)
                trained = Trained(case, str(source))
                lines = ["storage float32 0 400 memory",
                         f"replace 0 x{b'fc.weight'.hex()} 0 float32 0 9x4", f"replace 0 x{b'fc.bias'.hex()} 0 float32 50 9", "settle"]
                result = subprocess.run([tool(), source, target, blob], input="\n".join(lines) + "\n", capture_output=True, text=True,
                                        timeout=60)
                shapes = {**DISTINCT, "fc.weight": (9, 4), "fc.bias": (9,)}
                problem = result.stderr if result.returncode else problem_after(case, trained, str(target), shapes, by_decay(shapes),
                                                                               reset={"fc.weight", "fc.bias"})
                tally.count(f"a head of another shape, {kind}{', named' if named else ''}, {save.__name__}", problem)


def judge_random(tally: Tally, scratch: Path, rounds: int) -> None:
    for number in range(rounds):
        chance = random.Random(number)
        layers = chance.sample(["a", "b", "c", "d.e", "d.f", "g"], chance.randint(2, 6))
        names = [f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")]
        sizes = chance.choice([range(2, 4), range(2, 40)])
        shapes = {name: tuple(chance.choice(sizes) for _ in range(2 if name.endswith("weight") else 1)) for name in names}
        in_order = list(dict(Bag(shapes, buffers=False).named_parameters()))
        trained = [name for name in in_order if chance.random() < chance.choice([0.6, 1.0, 1.0])] or in_order[:1]
        if chance.random() < 0.3:
            chance.shuffle(trained)
        groups: Groups = [[] for _ in range(chance.randint(1, 3))]
        for name in trained:
            chance.choice(groups).append(name)
        groups = [group for group in groups if group]
        untrained = {name for name in trained if chance.random() < 0.1}
        drop = [name for name in in_order if chance.random() < 0.4][:len(in_order) - 1] or in_order[:1]
        named = HAS_NAMES and chance.random() < 0.5
        case = Case("random", shapes, groups, drop, chance.choice(["sgd", "adam", "adamw"]), named, untrained,
                    save=chance.choice([torch.save, legacy, protocol4]))
        unique = len(set(shapes.values())) == len(shapes)
        try:
            problem = judge_filter(case, scratch, not (named or unique and not untrained))
        except Exception as error:  # any failure to load or train is the finding
            problem = f"{type(error).__name__}: {error}"
        tally.count(f"random case {number}", problem)


def main() -> int:
    if "CKPT" not in os.environ:
        sys.exit("optimizer_judge: set CKPT to the ckpt to judge")
    parser = argparse.ArgumentParser(description="Judges how optimizer state follows edits.")
    parser.add_argument("--rounds", type=int, default=100, help="random cases")
    torch.set_num_threads(1)
    tally = Tally()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        judge_cases(tally, scratch)
        judge_lbfgs(tally, scratch)
        judge_wrappers(tally, scratch)
        judge_reset(tally, scratch)
        judge_random(tally, scratch, parser.parse_args().rounds)
    return tally.finish()


if __name__ == "__main__":
    sys.exit(main())
