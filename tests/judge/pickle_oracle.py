# SPDX-License-Identifier: BSD-3-Clause
"""CPython as the judge of edited pickles: unpicklers with inert classes, an oracle, a comparison.

What an edit must give is computed by running the *original* stream in an unpickler that swaps the value at
each edited place the moment it is on the stack.
"""

import collections
import io
import pickle
import pickletools


class Inert:
    """Result of a call: remembers function, arguments and whatever is done to it."""

    def __init__(self, function, args, kwargs):
        self.function, self.args, self.kwargs = function, args, kwargs
        self.items, self.mapping, self.states = [], [], []

    def append(self, item):
        self.items.append(item)

    def extend(self, items):
        self.items.extend(items)

    def add(self, item):
        self.items.append(item)

    def __setitem__(self, key, value):
        self.mapping.append((key, value))

    def __setstate__(self, state):
        self.states.append(state)

    def __call__(self, *args, **kwargs):
        return Inert(self, args, kwargs)

    def __hash__(self):
        return 1


class Persistent:
    def __init__(self, pid):
        self.pid = pid


known_classes = {}


def inert_class(module, name):
    """One class per name, importing nothing. NEWOBJ wants a class, REDUCE something that can be called."""
    key = (module, name)
    if key not in known_classes:
        def new(cls, *args, **kwargs):
            self = object.__new__(cls)
            Inert.__init__(self, key, args, kwargs)
            return self
        known_classes[key] = type(name, (Inert,), {'__new__': new, '__init__': lambda self, *args, **kwargs: None})
    return known_classes[key]


class InertC(pickle.Unpickler):
    def find_class(self, module, name):
        return inert_class(module, name)

    def persistent_load(self, pid):
        return Persistent(pid)


class InertPython(pickle._Unpickler):
    def find_class(self, module, name):
        return inert_class(module, name)

    def persistent_load(self, pid):
        return Persistent(pid)


DROPPED = object()


class Later:
    """Stands for the value used at another place, which may not exist yet."""

    def __init__(self):
        self.value = None


PUTS = {'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE', 'FRAME', 'PROTO'}
NAMES = {op.code.encode('latin1')[0]: op.name for op in pickletools.opcodes}


class Oracle(InertPython):
    """Runs a stream and changes the top of the stack behind the nodes named in `edits` (position → value).

    Behind others it pushes new operands (`behind`), or adds items to the container on top (`appended`).
    """

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, data, edits, watched, behind={}, appended={}):
        self.stream = io.BytesIO(data)
        super().__init__(self.stream)
        self.edits, self.watched, self.behind, self.appended = edits, watched, behind, appended

    def load(self):
        self._unframer = pickle._Unframer(self.stream.read, self.stream.readline)
        self.read, self.readline = self.stream.read, self.stream.readline
        self.readinto = self.stream.readinto
        self.metastack, self.stack, self.proto = [], [], 0
        self.append = self.stack.append
        last = None
        while True:
            position = self.stream.tell()
            code = self.stream.read(1)[0]
            if NAMES[code] not in PUTS:
                self.leave(last)
                last = position
            try:
                self.dispatch[code](self)
            except pickle._Stop as stop:
                return stop.value

    def leave(self, position):
        for new in self.appended.get(position, []):
            top = self.stack[-1]
            if len(new) == 2:
                top[new[0]] = new[1]
            else:
                top.append(new[0])
        if position in self.watched:
            self.watched[position].value = self.stack[-1]
        if position in self.edits:
            self.stack[-1] = self.edits[position]
        for value in self.behind.get(position, []):
            self.append(value)

    def load_frame(self):
        self.stream.read(8)

    dispatch[pickle.FRAME[0]] = load_frame

    def kept(self):
        return [item for item in self.pop_mark() if item is not DROPPED]

    def load_append(self):
        value = self.stack.pop()
        if value is not DROPPED:
            self.stack[-1].append(value)

    dispatch[pickle.APPEND[0]] = load_append

    def load_appends(self):
        items = self.kept()
        self.stack[-1].extend(items)

    dispatch[pickle.APPENDS[0]] = load_appends

    def load_additems(self):
        items = self.kept()
        for item in items:
            self.stack[-1].add(item)

    dispatch[pickle.ADDITEMS[0]] = load_additems

    def load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        if value is not DROPPED:
            self.stack[-1][key] = value

    dispatch[pickle.SETITEM[0]] = load_setitem

    def load_setitems(self):
        items = self.kept()
        for key, value in zip(items[::2], items[1::2]):
            self.stack[-1][key] = value

    dispatch[pickle.SETITEMS[0]] = load_setitems

    def load_dict(self):
        items = self.kept()
        self.append(dict(zip(items[::2], items[1::2])))

    dispatch[pickle.DICT[0]] = load_dict

    def load_list(self):
        items = self.kept()
        self.append(items)

    dispatch[pickle.LIST[0]] = load_list

    def load_tuple(self):
        items = tuple(self.kept())
        self.append(items)

    dispatch[pickle.TUPLE[0]] = load_tuple

    def load_frozenset(self):
        items = frozenset(self.kept())
        self.append(items)

    dispatch[pickle.FROZENSET[0]] = load_frozenset

    def load_build(self):
        state = self.stack.pop()
        if state is not DROPPED:
            inst = self.stack[-1]
            inst.__setstate__(state) if hasattr(inst, '__setstate__') else inst.__dict__.update(state)

    dispatch[pickle.BUILD[0]] = load_build


# ------------------------------------------------------------------------------------------------ comparison

ATOMS = (str, bytes, int, float, complex, bool, type(None), type)


def parts(value):
    """Children of a value in order, with a description of the rest."""
    if isinstance(value, dict):
        return 'dict', [part for item in value.items() for part in item]
    if isinstance(value, (list, tuple)):
        return type(value).__name__, list(value)
    if isinstance(value, (set, frozenset)):
        return type(value).__name__, sorted(value, key=repr)
    if isinstance(value, bytearray):
        return 'bytearray', [bytes(value)]
    if isinstance(value, Persistent):
        return 'persistent', [value.pid]
    if isinstance(value, Inert):
        called = [value.function] if isinstance(value.function, Inert) else []
        shape = f'{"" if called else value.function} {len(value.items)} {len(value.mapping)} {len(value.states)} {sorted(value.kwargs)}'
        children = called + list(value.args) + [value.kwargs[k] for k in sorted(value.kwargs)] + value.items
        children += [part for item in value.mapping for part in item] + value.states
        return shape, children
    raise TypeError(type(value))


def plain(value):
    while isinstance(value, Later):
        value = value.value
    return value


def difference(left, right):
    """Why two object graphs are not the same, or None."""
    seen, back = {}, {}
    work = [(left, right, 'root')]
    while work:
        a, b, path = work.pop()
        a, b = plain(a), plain(b)
        if isinstance(a, ATOMS) or isinstance(b, ATOMS):
            if type(a) is not type(b) or (a != b and repr(a) != repr(b)):
                return f'{path}: {a!r} and {b!r}'
            continue
        if a is DROPPED or b is DROPPED:
            return f'{path}: a dropped value is left'
        if a == () and b == ():
            continue
        if id(a) in seen or id(b) in back:
            if seen.get(id(a)) != id(b) or back.get(id(b)) != id(a):
                return f'{path}: identity differs'
            continue
        seen[id(a)], back[id(b)] = id(b), id(a)
        (shape_a, children_a), (shape_b, children_b) = parts(a), parts(b)
        if shape_a != shape_b or len(children_a) != len(children_b):
            return f'{path}: {shape_a} {len(children_a)} and {shape_b} {len(children_b)}'
        for index, (x, y) in enumerate(zip(children_a, children_b)):
            work.append((x, y, f'{path}/{index}'))
    return None


def has_frozen_cycle(root):
    """Does a tuple, a frozen set or the result of a call contain itself through what it was made of?

    A state that others hold, too, counts with what it is made of: it may not be filled when BUILD takes it.
    """
    def frozen(value):
        if isinstance(value, Inert):
            shared = [part for state in value.states if isinstance(state, dict) and holders[id(state)] > 1
                      for part in parts(state)[1]]
            return list(value.args) + list(value.kwargs.values()) + shared
        if isinstance(value, (tuple, frozenset)):
            return list(value)
        return [value.pid] if isinstance(value, Persistent) else []

    def reachable(start):
        seen, work = {}, list(start)
        while work:
            value = plain(work.pop())
            if not isinstance(value, ATOMS) and value is not DROPPED and id(value) not in seen:
                seen[id(value)] = value
                work.extend(parts(value)[1])
        return seen

    everything = reachable([root]).values()
    holders = collections.Counter(id(plain(part)) for value in everything for part in parts(value)[1])
    holders[id(plain(root))] += 1
    return any(id(value) in reachable(frozen(value)) for value in everything if frozen(value))
