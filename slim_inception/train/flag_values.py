"""Flags that are written as text and mean more: addresses, lists, ranges, factors."""

import itertools
import math


def host_and_port(data_service: str) -> tuple[str, int]:
  """'host:5050' of --data_service -> ('host', 5050); raises ValueError."""
  host, _, port = data_service.rpartition(':')
  if not (host and port.isdecimal() and 0 < int(port) < 65536):
    raise ValueError(f'{data_service!r} must be HOST:PORT, loader1:5050 say')
  return host, int(port)


def epochs(comma_separated: str | None) -> tuple[float, ...]:
  """'30,60,80' of --learning_rate_steps -> (30.0, 60.0, 80.0).

  Raises:
    ValueError: these are not numbers above 0 in ascending order.
  """
  try:
    found = tuple(float(part) for part in (comma_separated or '').split(',') if part.strip())
  except ValueError:
    found = (-1.0,)
  if any(not a < b < math.inf for a, b in itertools.pairwise((0.0, *found))):
    raise ValueError(
      f'--learning_rate_steps={comma_separated}: must be epochs in ascending order, 30,60,80 say'
    )
  return found


def profile_range(profile_steps: str | None) -> tuple[int, int]:
  """'10,20' -> (10, 20); (0, 0), which no step is, for None.

  Raises:
    ValueError: that is no range of steps.
  """
  if profile_steps is None:
    return 0, 0
  try:
    first, last = map(int, profile_steps.split(','))
  except ValueError:
    first = last = 0
  if not 1 <= first <= last:
    raise ValueError(f'--profile_steps={profile_steps}: must be FIRST,LAST, 10,20 say')
  return first, last


def learning_rate_scales(comma_separated: str | None) -> tuple[tuple[str, float], ...]:
  """'A/B:10,A:0.1' -> (('A/B', 10.0), ('A', 0.1)).

  Raises:
    ValueError: a part is no scope:factor, or a factor no finite number of at least 0.
  """
  found = []
  for part in scopes(comma_separated):
    scope, _, factor = part.rpartition(':')
    try:
      found.append((scope.strip(), float(factor)))
    except ValueError:
      found.append(('', 0.0))
    if not (found[-1][0] and 0 <= found[-1][1] < math.inf):
      raise ValueError(
        f'--learning_rate_scales: {part!r} must be scope:factor, InceptionV3/Logits:10 say'
      )
  return tuple(found)


def scopes(comma_separated: str | None) -> tuple[str, ...]:
  """'InceptionV3/Logits, InceptionV3/AuxLogits' -> a tuple of both."""
  parts = (comma_separated or '').split(',')
  return tuple(part.strip() for part in parts if part.strip())
