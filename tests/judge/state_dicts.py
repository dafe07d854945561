# SPDX-License-Identifier: BSD-3-Clause
"""Which mappings and modules of a checkpoint are state dicts, by the user's contract; for loaded and for symbolic values."""
from __future__ import annotations

from typing import Any, Callable


def attributes_of(value: Any) -> dict[str, Any]:
    """An object's attributes, also of a stand-in for a missing class, or for the call that makes a torch.fx module."""
    if type(value).__name__ in ("reduce_graph_module", "reduce_deploy_graph_module") and isinstance(value.args[0][0], dict):
        return value.args[0][0]
    states = [state for state in getattr(value, "states", []) if isinstance(state, dict)]
    return states[0] if states else getattr(value, "__dict__", {})


def is_module(value: Any) -> bool:
    return not isinstance(value, type) and {"_parameters", "_buffers", "_modules"} <= set(attributes_of(value))


def is_state_dict(value: Any, is_tensor: Callable[[Any], bool]) -> bool:
    return (isinstance(value, dict) and all(isinstance(key, str) for key in value) and any(map(is_tensor, value.values()))
            and all(is_tensor(item) or key.endswith("_extra_state") for key, item in value.items()))


def find_state_dicts(root: Any, is_tensor: Callable[[Any], bool]) -> list[tuple[tuple[str, ...], Any]]:
    """(keys from the root, mapping or module) of each state dict, in file order."""
    found: list[tuple[tuple[str, ...], Any]] = []
    seen: set[int] = set()

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if is_module(value) or is_state_dict(value, is_tensor):
            found.append((path, value))
        elif isinstance(value, dict) and not {"state", "param_groups"} <= set(value):
            for key, item in value.items():
                if isinstance(key, str):
                    visit(item, (*path, key))

    visit(root, ())
    if not found and isinstance(root, dict) and all(isinstance(key, str) for key in root) and any(map(is_tensor, root.values())):
        found.append(((), root))
    return found
