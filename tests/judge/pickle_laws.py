#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The laws of lib/ckpt/pickle, with CPython as the judge.

usage: pickle_laws.py TOOL [--cases N] [--seed N] [--rounds N] [--no-corpus] [--verbose]

TOOL is ckpt_pickle_tool (tests/support/pickle_tool.cpp). Random objects are pickled in every protocol, by
the C and the Python pickler; random edits are made by the encoder; CPython's unpicklers, with inert classes
for all globals, load the result, which must be what the oracle says. Identity counts: a shared object must
not get split or merged. The pickles of tests/data and of the downloaded corpus are edited too.
"""

import argparse
import builtins
import codecs
import collections
import glob
import io
import os
import pickletools
import random
import sys
import zipfile

from pickle_generator import generate
from pickle_oracle import (DROPPED, PUTS, InertC, InertPython, Later, Oracle, Persistent, difference, has_frozen_cycle,
                           inert_class)
from pickle_tree import CHANGES, LISTS, MAPPINGS, Tool, Tree, droppable, in_key, is_key, operands, replaceable


def wrong_frames(data):
    """Frames lie side by side and hold whole instructions."""
    end = 0
    boundaries = {position for _, _, position in pickletools.genops(data)} | {len(data)}
    for op, argument, position in pickletools.genops(data):
        if op.name == 'FRAME':
            if position < end or not argument or position + 9 + argument not in boundaries:
                return f'the frame at byte {position} has a wrong length'
            end = position + 9 + argument
    return None


class Case:
    def __init__(self, tool, rng, data, how):
        self.tool, self.rng, self.data, self.how = tool, rng, data, how
        self.commands, self.edits, self.watched, self.taken = [], {}, {}, []
        self.sources = []  # of moves
        self.behind, self.appended = {}, {}  # new operands by position, new items of the container there

    def free(self, use):
        """Edits may be nested but not at the same place."""
        return use not in self.taken

    def edit(self, tree, use, command, value):
        self.commands.append(command)
        self.edits[tree.nodes[use].position] = value
        self.taken.append(use)

    def drop(self, tree, use):
        group = droppable(tree, use)
        if not group or not all(self.free(u) for u in group):
            return False
        for u in group:
            self.edit(tree, u, f'drop {u}', DROPPED)
        return True

    def rename(self, tree, use):
        if not is_key(tree, use) or not self.free(use):
            return False
        text = self.rng.choice(['new name', 'module.größe', 'a\\b\n\u20ac\U0001d11e', 'y' * 300, ''])
        self.edit(tree, use, f'text {use} {text.encode().hex()}', text)
        return True

    def replace(self, tree, use):
        if not replaceable(tree, use) or not self.free(use):
            return False
        number = self.rng.choice([0, 1, 255, 256, -1, 65536, 2**31, -2**31, -2**31 - 1, 2**62, -2**63, 127, 128, -129])
        command, value = self.rng.choice([(f'none {use}', None), (f'integer {use} {number}', number),
                                          (f'text {use} 616263', 'abc'), None]) or self.new_value(use)
        self.edit(tree, use, command, value)
        return True

    def new_value(self, use):
        """A call, a tuple, a persistent id or a boolean that the stream does not have."""
        words, value = self.rng.choice([self.new_tuple, self.new_call, self.new_id, self.new_boolean])(2)
        return f'new {use} {words}', value

    def new_operand(self, depth):
        kinds = [self.new_boolean, lambda _: ('n', None), lambda _: ('i70000', 70000), lambda _: ('t78', 'x')]
        return self.rng.choice(kinds + [self.new_tuple, self.new_call, self.new_id] * (depth > 0))(depth - 1)

    def new_boolean(self, _):
        return self.rng.choice([('b1', True), ('b0', False)])

    def new_tuple(self, depth):
        items = [self.new_operand(depth) for _ in range(self.rng.randrange(6))]
        return ' '.join([f'({len(items)}', *(word for word, _ in items)]), tuple(value for _, value in items)

    def new_call(self, depth):
        words, arguments = self.new_tuple(depth)
        return f'R gsome.module:function {words}', inert_class('some.module', 'function')(*arguments)

    def new_id(self, depth):
        word, value = self.new_operand(depth)
        return f'P {word}', Persistent(value)

    def move(self, tree, use):
        """Something else comes here; its old place is usually dropped."""
        if not replaceable(tree, use) or not self.free(use) or in_key(tree, use):
            return False
        source = self.rng.choice(tree.uses())
        if tree.inside(use, source) or not self.free(source) or in_key(tree, source):
            return False
        later = self.watched.setdefault(tree.nodes[source].position, Later())
        if self.rng.random() < .8:
            up = source
            while up in tree.parent and (self.rng.random() < .3 or not droppable(tree, up)):
                up = tree.parent[up]
            if up in tree.parent and not tree.inside(use, up) and not any(tree.inside(use, u) for u in droppable(tree, up)):
                self.drop(tree, up)
        if not self.free(use):
            return False
        self.edit(tree, use, f'move {use} {source}', later)
        self.sources.append(source)
        return True

    def new_items(self, count, pairs):
        """Commands' words and Python's values."""
        items = []
        for _ in range(count):
            key, number = self.rng.choice(['k', 'größe', '']), self.rng.choice([0, 300, -1, 2**40])
            value = self.rng.choice([(f'i{number}', number)] * 6 + [('n', None), self.new_call(1), self.new_tuple(1)])
            items.append([(f't{key.encode().hex()}', key), value] if pairs else [value])
        return ' '.join(word for item in items for word, _ in item), [[value for _, value in item] for item in items]

    def insert(self, tree, use):
        parent, children = operands(tree, use)
        opcode = tree.nodes[parent].opcode
        pairs = opcode in MAPPINGS
        if use not in children or not (pairs or opcode in LISTS) or pairs and children.index(use) % 2 == 0:
            return False
        if in_key(tree, parent) or opcode in ('ADDITEMS', 'FROZENSET', 'TUPLE') and in_key(tree, use):
            return False
        place = tree.nodes[use].position
        if place in self.behind or any(f' {use} ' in command for command in self.commands if command[0] == 'b'):
            return False
        words, items = self.new_items(self.rng.choice([1, 1, 2]), pairs)
        self.commands.append(f'behind {use} {words}')
        if opcode in ('SETITEM', 'APPEND'):
            self.appended.setdefault(tree.nodes[parent].position, [])[:0] = items
        else:
            self.behind[place] = [value for item in items for value in item]
        return True

    def append(self, tree, use):
        """New items of a container."""
        made = use
        while tree.nodes[made].opcode in CHANGES:
            made = tree.children[made][0]
        opcode = tree.nodes[made].opcode
        pairs = opcode in ('EMPTY_DICT', 'DICT', 'REDUCE', 'NEWOBJ')
        if not pairs and opcode not in ('EMPTY_LIST', 'LIST') or in_key(tree, use):
            return False
        if any(command.startswith(f'append {use} ') for command in self.commands):
            return False
        words, items = self.new_items(self.rng.choice([1, 1, 3]), pairs)
        self.commands.append(f'append {use} {words}')
        self.appended.setdefault(tree.nodes[use].position, []).extend(items)
        return True

    def load(self, data, kind):
        if kind == 'c':
            return InertC(io.BytesIO(data)).load()
        return InertPython(io.BytesIO(data)).load()

    def run(self):
        """None if all is well, 'refused' for an edit that may be refused, or what is wrong."""
        answer = self.tool.load(self.data)
        if not answer.startswith('ok'):
            return answer
        irregular = answer.split(' ', 2)[2] if answer.count(' ') > 1 else ''
        if self.tool.ask('repeat') != 'ok same':
            return 'the unedited graph differs'
        nodes = self.tool.dump()
        wrong = self.partition(nodes)
        if wrong:
            return wrong
        tree = Tree(nodes, self.data)
        self.choose(tree)
        if not self.commands:
            return None
        for command in self.commands:
            self.tool.ask(command)
        answer = self.tool.ask('encode')
        if answer.startswith('error'):
            if irregular:
                return 'irregular'
            return self.refusal(tree, answer)
        if irregular:
            return 'an irregular pickle was edited: ' + irregular
        output = bytes.fromhex(answer[3:])
        self.output = output
        try:
            expected = Oracle(self.data, self.edits, self.watched, self.behind, self.appended).load()
        except TypeError:  # the edit asked for something that no loader takes: a keyword that is no string, say
            return 'nonsense'
        for kind in 'c', 'python':
            try:
                loaded = self.load(output, kind)
            except Exception as error:
                return f'{kind}: {type(error).__name__}: {error}'
            wrong = difference(expected, loaded)
            if wrong:
                return f'{kind}: {wrong}'
        return self.again(output)

    def refusal(self, tree, answer):
        """Was there a reason to refuse the edit?"""
        if answer.startswith('error unsupported') and 'contains itself' in answer:
            if has_frozen_cycle(Oracle(self.data, {}, {}).load()) or self.sources and has_frozen_cycle(
                    Oracle(self.data, self.edits, self.watched, self.behind, self.appended).load()):
                return 'refused'
        if answer.startswith('error internal') and 'without a memo slot' in answer:
            if any(not tree.memoised(source) for source in self.sources):
                return 'refused'
        return answer

    def again(self, output):
        """The output is a regular pickle itself, and a rename can be taken back."""
        answer = self.tool.load(output)
        if not answer.startswith('ok') or answer.split(' ', 2)[2:] not in ([], ['']):
            return 'the output: ' + answer
        if self.tool.ask('repeat') != 'ok same':
            return 'the output does not repeat'
        return wrong_frames(output) or self.partition(self.tool.dump(), output)

    def partition(self, nodes, data=None):
        data = self.data if data is None else data
        instructions = [(op.name, position) for op, _, position in pickletools.genops(data)]
        expected = [(name, position) for name, position in instructions if name not in PUTS and name != 'STOP']
        if expected != [(node.opcode, node.position) for node in nodes]:
            return 'the nodes are not the instructions that pickletools finds'
        return None

    def new_root(self, tree):
        """Something inside becomes the result."""
        root, source = len(tree.nodes) - 1, self.rng.choice(tree.uses())
        later = self.watched[tree.nodes[source].position] = Later()
        self.edit(tree, root, f'move {root} {source}', later)
        self.sources.append(source)

    def choose(self, tree):
        uses = tree.uses()
        if not uses:
            return
        if self.rng.random() < .03:
            self.new_root(tree)
        actions = [self.drop, self.drop, self.rename, self.replace, self.move, self.insert, self.append]
        if self.rng.random() < .3:
            actions += [self.move] * 5
        for _ in range(self.rng.choice([1, 1, 2, 3, 6, 20])):
            self.rng.choice(actions)(tree, self.rng.choice(uses))


def taken_back(tool, rng, data):
    """Rename one key and rename it back: the objects are the first ones, and mostly the bytes too."""
    if not tool.load(data).startswith('ok') or not (nodes := tool.dump()):
        return None
    tree = Tree(nodes, data)
    names = {position: argument for op, argument, position in pickletools.genops(data)
             if op.name in ('BINUNICODE', 'SHORT_BINUNICODE', 'UNICODE')}
    keys = [use for use in tree.uses() if is_key(tree, use) and nodes[use].position in names]
    if not keys:
        return None
    use = rng.choice(keys)
    old, new = names[nodes[use].position], 'a name of its own'
    tool.ask(f'text {use} {new.encode().hex()}')
    answer = tool.ask('encode')
    if not answer.startswith('ok'):
        return None
    there = bytes.fromhex(answer[3:])
    tool.load(there)
    position = [p for _, argument, p in pickletools.genops(there) if argument == new]
    index = [i for i, node in enumerate(tool.dump()) if node.position == position[0]]
    tool.ask(f'text {index[0]} {old.encode("utf-8", "surrogatepass").hex()}')
    back = bytes.fromhex(tool.ask('encode')[3:])
    wrong = difference(InertC(io.BytesIO(data)).load(), InertC(io.BytesIO(back)).load())
    if wrong:
        return 'renamed back: ' + wrong
    behind = [op.name for op, _, p in pickletools.genops(data) if p > nodes[use].position][0]
    if back != data and behind not in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):  # a new string has no slot
        return 'renamed back: the bytes differ'
    return None


RESTRICTED = set(
    'APPEND APPENDS BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BUILD EMPTY_DICT EMPTY_LIST EMPTY_SET '
    'EMPTY_TUPLE GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK NEWFALSE NEWOBJ NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS '
    'SHORT_BINSTRING STOP TUPLE TUPLE1 TUPLE2 TUPLE3'.split())


class Makers(InertC):
    """Knows what bytes, bytearrays and sets are made by where no opcode makes them."""

    def find_class(self, module, name):
        if (module, name) == ('_codecs', 'encode'):
            return codecs.encode
        if module in ('builtins', '__builtin__') and name in ('set', 'bytearray'):
            return getattr(builtins, name)
        return super().find_class(module, name)


def restricted(tool, data):
    """In the opcodes of the restricted loader the objects are the same, or it is refused with the opcode that has no other form."""
    if not tool.load(data).startswith('ok'):
        return None
    answer = tool.ask('restrict')
    if answer.startswith('error unsupported'):
        return None
    if not answer.startswith('ok'):
        return 'restricted: ' + answer
    output = bytes.fromhex(answer[3:])
    others = {op.name for op, _, _ in pickletools.genops(output)} - RESTRICTED
    if others:
        return f'restricted: it has {sorted(others)}'
    try:
        wrong = difference(Makers(io.BytesIO(data)).load(), Makers(io.BytesIO(output)).load())
    except Exception as error:
        return f'restricted: {type(error).__name__}: {error}'
    return 'restricted: ' + wrong if wrong else None


def pickles_in(path):
    """The pickles of a checkpoint file: records of a zip, or the stacked ones of a legacy file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith('.pkl'):
                    try:
                        data = archive.read(name)
                    except zipfile.BadZipFile:  # a golden file with a wrong checksum
                        continue
                    yield name, data
        return
    with open(path, 'rb') as file:
        head = file.read(2)
        if len(head) < 2 or head[0] != 0x80:
            return
        file.seek(0)
        for number in range(5):
            start = file.tell()
            try:
                for _ in pickletools.genops(file):
                    pass
            except ValueError:
                return
            end = file.tell()
            file.seek(start)
            yield f'pickle {number}', file.read(end - start)


def files(with_corpus):
    directories = [os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'data')]
    if with_corpus:
        directories.append(os.path.join(os.environ.get('CKPT_CACHE', os.path.expanduser('~/.cache/ckpt')), 'corpus'))
    for directory in directories:
        for path in sorted(glob.glob(os.path.join(directory, '**', '*'), recursive=True)):
            if os.path.isfile(path) and os.path.splitext(path)[1] in ('.pt', '.pth', '.bin', '.ckpt', '.pkl', '.pickle'):
                yield path


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('tool')
    parser.add_argument('--cases', type=int, default=3000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--rounds', type=int, default=20, help='edits tried on every file at hand')
    parser.add_argument('--no-corpus', action='store_true', help='only tests/data')
    parser.add_argument('--verbose', action='store_true')
    options = parser.parse_args()
    sys.setrecursionlimit(5000)
    tool = Tool(options.tool)
    counts = collections.Counter()

    def judge(label, data, rng, how):
        case = Case(tool, rng, data, how)
        verdict = case.run()
        if verdict in (None, 'refused', 'irregular', 'nonsense'):
            counts['passed'] += 1
            counts[verdict or 'edited'] += 1
            return
        counts['failed'] += 1
        print(f'FAILED {label} ({how}): {verdict}')
        if options.verbose:
            print('  data =', data.hex())
            print('  commands =', case.commands)
            print('  output =', getattr(case, 'output', b'').hex())

    for number in range(options.cases):
        seed = options.seed * 1_000_000 + number
        rng = random.Random(seed)
        data, how = generate(rng)
        judge(f'seed {seed}', data, rng, how)
        for wrong in taken_back(tool, rng, data), restricted(tool, data):
            counts['failed' if wrong else 'passed'] += 1
            if wrong:
                print(f'FAILED seed {seed} ({how}): {wrong}')
    for path in files(not options.no_corpus):
        for name, data in pickles_in(path):
            for number in range(options.rounds if len(data) < 1_000_000 else min(1, options.rounds)):
                judge(f'{path} {name} {number}', data, random.Random(number), 'file')
    print(f'{counts["edited"]} edited, {counts["refused"]} refused, {counts["irregular"]} irregular, '
          f'{counts["nonsense"]} nonsense')
    print(f'{counts["passed"]} passed, {counts["failed"]} failed')
    return 1 if counts['failed'] else 0


if __name__ == '__main__':
    sys.exit(main())
