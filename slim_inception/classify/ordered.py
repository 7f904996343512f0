"""Iterators that several threads fill or empty, in order."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar('Item')
Result = TypeVar('Result')


def map_ahead(
  function: Callable[[Item], Result], items: Iterable[Item], num_threads: int
) -> Iterator[Result]:
  """`map(function, items)` by threads, which are at most `num_threads` items ahead."""
  pool = concurrent.futures.ThreadPoolExecutor(num_threads)
  waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
  try:
    for item in items:
      waiting.append(pool.submit(function, item))
      if len(waiting) > num_threads:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(wait=False, cancel_futures=True)


def tee(items: Iterable[Item], count: int) -> list[Iterator[Item]]:
  """`itertools.tee` for iterators that different threads empty."""
  source = iter(items)
  lock = threading.Lock()
  queues: list[collections.deque[Item]] = [collections.deque() for _ in range(count)]

  def pull(own: collections.deque[Item]) -> Iterator[Item]:
    while True:
      with lock:
        if not own:
          try:
            item = next(source)
          except StopIteration:
            return
          for queue in queues:
            queue.append(item)
        item = own.popleft()
      yield item

  return [pull(queue) for queue in queues]
