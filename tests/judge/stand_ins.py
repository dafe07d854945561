# SPDX-License-Identifier: BSD-3-Clause
"""Stand-ins for the classes and functions that a pickle names: they remember what was done to them and do nothing."""
from __future__ import annotations

from typing import Any


class StandInType(type):
    """A missing class; an attribute asked of it, such as an enumerator, is a stand-in of its own."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls.members.setdefault(name, cls(name))


class StandIn(metaclass=StandInType):
    """Base of all missing classes and functions: an instance keeps arguments, items and states in order of arrival."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "StandIn":
        made = super().__new__(cls)
        made.__dict__.update(args=(args, kwargs), items=[], states=[])
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.states.append(state)

    def append(self, item: Any) -> None:
        self.items.append(item)

    def extend(self, items: Any) -> None:
        self.items.extend(items)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items.append((key, value))


_stand_ins: dict[tuple[str, str], type] = {}


def stand_in(module: str, name: str) -> type:
    """The one stand-in of that name; two loads give the same."""
    if (module, name) not in _stand_ins:
        _stand_ins[module, name] = StandInType(name, (StandIn,), {"__module__": module, "members": {}})
    return _stand_ins[module, name]


def enumerator(owner: Any, name: str) -> Any:
    """What pickles call getattr for; only stand-ins have attributes."""
    return getattr(owner, name) if isinstance(owner, StandInType) else stand_in("builtins", "getattr")(owner, name)
