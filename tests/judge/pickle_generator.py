# SPDX-License-Identifier: BSD-3-Clause
"""Random objects with much sharing and many cycles, and their pickles in every protocol."""

import collections
import io
import pickle
import pickletools


class Plain:
    pass


class Slots:
    __slots__ = ('one', 'two')


class ListLike(list):
    pass


class DictLike(dict):
    pass


class Storage:
    """Pickled by persistent id."""

    def __init__(self, pid):
        self.pid = pid


class Reduced:
    """An object whose pickle has all five parts."""

    def __init__(self, *args):
        self.args, self.state, self.listed, self.mapped = args, None, [], []

    def __reduce__(self):
        return (Reduced, self.args, self.state, iter(self.listed) if self.listed else None,
                iter(self.mapped) if self.mapped else None)


class NewArgs:
    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.made_of = args
        return self

    def __getnewargs_ex__(self):
        return self.made_of, ({'key': self.made_of} if len(self.made_of) % 2 else {})


class OldOrdered:
    """As Python 2 pickles an OrderedDict: a list of pairs."""

    def __init__(self, pairs):
        self.pairs = pairs

    def __reduce__(self):
        return collections.OrderedDict, ([[k, v] for k, v in self.pairs],)


class Generator:
    def __init__(self, rng):
        self.rng, self.made, self.budget = rng, [], rng.choice([5, 15, 40, 120])
        self.names = [self.name() for _ in range(rng.randint(1, 6))]

    def name(self):
        r = self.rng
        return r.choice(['weight', 'bias', 'layer.%d.weight' % r.randint(0, 99), 'größe', '\u20ac\U0001d11e', '',
                         'a\\b\nc', 'x' * r.randint(1, 300), 'module.%d' % r.randint(0, 9), '\ud800', '\x00\r\x1a'])

    def key(self):
        r = self.rng
        if r.random() < .5:
            return r.choice(self.names)
        return r.choice([self.name, lambda: r.randint(-5, 70000), lambda: (self.name(), 1), lambda: 1.5,
                         lambda: self.name() + str(r.random())])()

    def atom(self):
        r = self.rng
        if r.random() < .01:  # bodies that stay outside
            size = r.choice([65535, 65536, 65537, 70000])
            return r.choice([bytes(size), 'x' * size, bytearray(size)])
        return r.choice([lambda: r.choice(self.names), self.name, lambda: None, lambda: True, lambda: False,
                         lambda: r.randint(-3, 300), lambda: r.randint(-2**31, 2**33), lambda: r.getrandbits(90),
                         lambda: -r.getrandbits(2100), lambda: r.random() * 1e9, lambda: float('inf'),
                         lambda: bytes(r.getrandbits(8) for _ in range(r.randint(0, 300))), lambda: b'',
                         lambda: bytearray(b'abc'), lambda: complex(1, 2), lambda: collections.OrderedDict,
                         lambda: Storage(('storage', r.choice(self.names), r.randint(0, 9))),
                         lambda: len, lambda: ()])()

    def value(self, depth=0):
        r = self.rng
        self.budget -= 1
        if self.made and r.random() < .25:
            return r.choice(self.made)
        if self.budget < 0 or depth > 12 or r.random() < .35:
            made = self.atom()
        else:
            return r.choice([self.a_list, self.a_dict, self.a_tuple, self.an_ordered, self.a_set, self.an_object,
                             self.a_dict, self.a_list, self.a_like, self.a_reduced, self.an_old])(depth + 1)
        if r.random() < .5:
            self.made.append(made)
        return made

    def items(self, depth):
        r = self.rng
        count = r.choice([0, 1, 1, 2, 3, 5])
        if r.random() < .01:
            count = r.randint(990, 2010)
            return [r.randint(0, 99) for _ in range(count)]
        return [self.value(depth) for _ in range(count)]

    def a_list(self, depth):
        made = []
        self.made.append(made)  # before its items: cycles
        made.extend(self.items(depth))
        return made

    def fill(self, mapping, depth):
        for value in self.items(depth):
            mapping[self.key()] = value
        return mapping

    def a_dict(self, depth):
        made = {}
        self.made.append(made)
        return self.fill(made, depth)

    def an_ordered(self, depth):
        made = collections.OrderedDict()
        self.made.append(made)
        self.fill(made, depth)
        if self.rng.random() < .3:
            made._metadata = {'': self.value(depth), 'module': self.value(depth)}
        return made

    def a_tuple(self, depth):
        made = tuple(self.items(depth))
        self.made.append(made)
        return made

    def a_set(self, depth):
        r = self.rng
        made = {r.choice([self.name(), r.randint(0, 9), (self.name(), 2)]) for _ in range(r.randint(0, 5))}
        made = made if r.random() < .5 else frozenset(made)
        self.made.append(made)
        return made

    def an_object(self, depth):
        made = self.rng.choice([Plain, Slots])()
        self.made.append(made)
        made.one = self.value(depth)
        if self.rng.random() < .5:
            made.two = self.value(depth)
        return made

    def a_like(self, depth):
        made = self.rng.choice([ListLike, DictLike])()
        self.made.append(made)
        made.extend(self.items(depth)) if isinstance(made, list) else self.fill(made, depth)
        if self.rng.random() < .5:
            made.attribute = self.value(depth)
        return made

    def a_reduced(self, depth):
        if self.rng.random() < .3:
            made = NewArgs(*[self.atom() for _ in range(self.rng.randint(0, 3))])
            self.made.append(made)
            return made
        made = Reduced(*[self.value(depth) for _ in range(self.rng.randint(0, 3))])
        self.made.append(made)
        made.listed = self.items(depth)
        made.mapped = [(self.key(), value) for value in self.items(depth)]
        made.state = self.value(depth) if self.rng.random() < .5 else None
        return made

    def an_old(self, depth):
        made = OldOrdered([(self.key(), value) for value in self.items(depth)])
        self.made.append(made)
        return made


class PicklerC(pickle.Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


class PicklerPython(pickle._Pickler):
    def persistent_id(self, value):
        return value.pid if isinstance(value, Storage) else None


def text_persid(value):
    return str(value.pid) if isinstance(value, Storage) else None


def generate(rng):
    """A pickle and a word about how it was made."""
    while True:
        generator = Generator(rng)
        root = generator.a_dict(0) if rng.random() < .7 else generator.value()
        protocol = rng.randint(0, 5)
        python = rng.random() < .5
        out = io.BytesIO()
        pickler = (PicklerPython if python else PicklerC)(out, protocol)
        if protocol == 0:
            if python:
                pickler.persistent_id = text_persid
            else:
                pickler = type('P', (pickle.Pickler,), {'persistent_id': lambda self, v: text_persid(v)})(out, 0)
        try:
            pickler.dump(root)
        except (RecursionError, AssertionError, pickle.PicklingError, TypeError, UnicodeEncodeError):
            continue
        data = out.getvalue()
        optimized = rng.random() < .25
        if optimized:
            data = pickletools.optimize(data)
        return data, f'protocol {protocol} {"python" if python else "c"}{" optimized" if optimized else ""}'
