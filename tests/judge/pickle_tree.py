# SPDX-License-Identifier: BSD-3-Clause
"""The nodes that ckpt_pickle_tool tells, as a tree of uses, and what may be edited where."""

import collections
import pickletools
import subprocess

Node = collections.namedtuple('Node', 'position opcode start repeats finished')


class Tool:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.process.stdin.write(line + '\n')
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f'the tool died on: {line[:200]}')
        return answer.rstrip('\n')

    def load(self, data):
        return self.ask('load ' + data.hex())

    def dump(self):
        return [Node(int(a), b, int(c), int(d), int(e))
                for a, b, c, d, e in (word.split(':') for word in self.ask('dump').split())]


class Tree:
    """The uses of a graph: who is operand of whom."""

    def __init__(self, nodes, data):
        names = [(op.name, position) for op, _, position in pickletools.genops(data)]
        self.puts = {before for (_, before), (name, _) in zip(names, names[1:])
                     if name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE')}
        self.nodes, self.parent, self.children = nodes, {}, collections.defaultdict(list)
        open_uses = []
        for index, node in enumerate(nodes):
            while open_uses and open_uses[-1] >= node.start:
                use = open_uses.pop()
                if nodes[use].opcode != 'MARK':
                    self.parent[use] = index
                    self.children[index].insert(0, use)
            open_uses.append(index)

    def uses(self):
        return [use for use in self.parent if self.nodes[use].finished == use]

    def memoised(self, use):
        """Is there a memo slot for the value used here?"""
        if self.nodes[use].repeats >= 0 or self.nodes[use].position in self.puts:
            return True
        return self.nodes[use].opcode in CHANGES and self.memoised(self.children[use][0])

    def inside(self, use, range_use):
        return self.nodes[range_use].start <= use <= range_use


CHANGES = {'SETITEM', 'SETITEMS', 'APPEND', 'APPENDS', 'ADDITEMS', 'BUILD'}
MAPPINGS = {'SETITEM', 'SETITEMS', 'DICT'}
LISTS = {'APPEND', 'APPENDS', 'ADDITEMS', 'TUPLE', 'LIST', 'FROZENSET'}
CALLS = {'REDUCE', 'NEWOBJ', 'NEWOBJ_EX', 'INST', 'OBJ'}


def operands(tree, use):
    """Operands of the operator over `use`, without the container it changes."""
    parent = tree.parent[use]
    children = tree.children[parent]
    return parent, children[1:] if tree.nodes[parent].opcode in CHANGES else children


def droppable(tree, use):
    """All uses that go with `use` when it is dropped; nothing if it can't be."""
    parent, children = operands(tree, use)
    opcode = tree.nodes[parent].opcode
    if use not in children:
        return []
    if opcode in MAPPINGS:
        index = children.index(use) // 2 * 2
        return children[index:index + 2]
    return [use] if opcode in LISTS or opcode == 'BUILD' else []


def replaceable(tree, use):
    parent, children = operands(tree, use)
    opcode = tree.nodes[parent].opcode
    if opcode in CALLS or use not in children:
        return False
    if opcode == 'BUILD':
        return False
    return opcode != 'STACK_GLOBAL'


def is_key(tree, use):
    parent, children = operands(tree, use)
    return tree.nodes[parent].opcode in MAPPINGS and use in children and children.index(use) % 2 == 0


def hashable_place(tree, use):
    parent, _ = operands(tree, use)
    return is_key(tree, use) or tree.nodes[parent].opcode in ('ADDITEMS', 'FROZENSET')


def in_key(tree, use):
    """Would a change here change something that is hashed?"""
    while use in tree.parent:
        if hashable_place(tree, use):
            return True
        use = tree.parent[use]
    return False
