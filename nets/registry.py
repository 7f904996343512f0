"""The nets there are, by name: each is described by a `Net`, and everything else reads these."""

from collections.abc import Callable

from . import (
  inception_resnet_v1,
  inception_resnet_v2,
  inception_v1,
  inception_v2,
  inception_v3,
  inception_v3_2015,
  inception_v4,
  resnet_v1,
  resnet_v1_5,
  resnet_v2,
)
from .net import ArgScope, Net, NetworkFn

NETS: dict[str, Net] = {}  # by `register`

# slim's two dictionaries, for code that goes through them.
networks_map: dict[str, NetworkFn] = {}
arg_scopes_map: dict[str, Callable[..., ArgScope]] = {}


def register(net: Net) -> Net:
  """Makes a net known to `create_model`, the commands' flags, summaries, drawings and conversions.

  Raises:
    ValueError: there is another net of that name.
  """
  if NETS.setdefault(net.name, net) != net:
    raise ValueError(f'There is a net {net.name!r} already: choose another name')
  networks_map[net.name] = net.network_fn
  arg_scopes_map[net.name] = net.arg_scope
  return net


register(inception_v1.NET)
register(inception_v2.NET)
register(inception_v3.NET)
register(inception_v3_2015.NET)
register(inception_v4.NET)
register(inception_resnet_v1.NET)
register(inception_resnet_v2.NET)
for _net in (*resnet_v1.NETS, *resnet_v1_5.NETS, *resnet_v2.NETS):
  register(_net)


def get_net(name: str) -> Net:
  """The registry's entry.

  Raises:
    ValueError: unknown name.
  """
  if name not in NETS:
    raise ValueError(f'Unknown net {name!r}; choose one of {", ".join(NETS)}')
  return NETS[name]


def nets_with(argument: str) -> list[str]:
  """The names of the nets whose function takes an argument, e.g. 'depth_multiplier'."""
  return [name for name, net in NETS.items() if argument in net.arguments]
