class Attributes(Module):
  __parameters__ = ["w", "absent", ]
  __buffers__ = ["scale", "hidden", ]
  w : Tensor
  absent : NoneType
  scale : Tensor
  hidden : Tensor
  training : bool
  _is_full_backward_hook : NoneType
  plain : Tensor
  table : Dict[str, Tensor]
  some : List[Tensor]
  maybe : Optional[Tensor]
  pair : __torch__.Pair
  color : __torch__.Color
  sizes : List[int]
  large : int
  layers : __torch__.torch.nn.modules.container.ModuleList
  named : __torch__.torch.nn.modules.container.ModuleDict
  def forward(self: __torch__.Attributes,
    x: Tensor) -> Tensor:
    layers = self.layers
    _0 = getattr(layers, "0")
    _1 = getattr(layers, "1")
    x0 = (_0).forward(x, )
    x1 = (_1).forward(x0, )
    named = self.named
    out = named.out
    _2 = (out).forward(x1, )
    w = self.w
    _3 = torch.matmul(_2, w)
    plain = self.plain
    _4 = torch.add(_3, plain)
    table = self.table
    _5 = torch.add(_4, table["x"])
    pair = self.pair
    x2 = torch.add(_5, (pair)[0])
    scale = self.scale
    _6 = torch.add(x2, torch.sum(scale))
    hidden = self.hidden
    _7 = torch.add(_6, torch.sum(hidden))
    large = self.large
    sizes = self.sizes
    x3 = torch.add(_7, float(torch.add(large, sizes[0])))
    some = self.some
    x4 = x3
    for _8 in range(torch.len(some)):
      t = some[_8]
      x4 = torch.add(x4, torch.sum(t))
    maybe = self.maybe
    if torch.__isnot__(maybe, None):
      maybe1 = unchecked_cast(Tensor, maybe)
      color = self.color
      _10 = torch.eq(color, __torch__.Color.GREEN)
      _9, maybe0 = _10, maybe1
    else:
      _9, maybe0 = False, maybe
    if _9:
      maybe2 = unchecked_cast(Tensor, maybe0)
      x5 = torch.add(x4, torch.sum(maybe2))
    else:
      x5 = x4
    return x5
class Pair(NamedTuple):
  first : Tensor
  second : int
class Color(Enum):
  RED = 1
  GREEN = 2
