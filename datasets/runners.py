"""Who runs the jobs of a conversion: this process, a pool of processes, or Apache Beam.

All call `shard_job.write_one_shard`; results come back through the reports that it writes.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import shlex
import signal
import tempfile
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent import futures
from pathlib import Path

from . import files, shard_job
from .shard_job import ShardJob, ShardReport, write_one_shard


def num_cores() -> int:
  """Cores that this process may use."""
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def run(
  jobs: Iterable[ShardJob], processes: futures.ProcessPoolExecutor | None, num_processes: int
) -> Generator[ShardReport, None, None]:
  """Runs the jobs in a `pool` of that many processes; yields reports as they come.

  Raises what `write_one_shard` raises.
  """
  if processes is None:
    yield from map(write_one_shard, jobs)
    return
  pending: set[futures.Future[ShardReport]] = set()
  # Its end is the sign to stop: no lock, which a process that is killed would keep.
  with tempfile.NamedTemporaryFile(prefix='slim-inception-running-') as running:
    for job in jobs:  # as they are taken: a thousand with all their items need not wait in a queue
      pending.add(processes.submit(_run_one, job, running.name))
      if len(pending) >= 2 * num_processes:
        done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
        yield from (future.result() for future in done)
    yield from (future.result() for future in futures.as_completed(pending))


@contextlib.contextmanager
def pool(num_processes: int) -> Iterator[futures.ProcessPoolExecutor | None]:
  """Processes that end with this one, and at once when it leaves the context; None for one.

  They start while this process goes on: that takes a quarter of a second.

  Raises:
    OSError: a process was killed, e.g. for want of memory.
  """
  if num_processes <= 1:
    yield None
    return
  # Forking this process, which may have threads, is not safe; its server of forks has none.
  context = multiprocessing.get_context('forkserver')
  context.set_forkserver_preload([f'{__package__}.verification'])  # once for all processes
  processes = futures.ProcessPoolExecutor(num_processes, context, _end_with_parent)
  try:
    _start_all(processes, num_processes)
    yield processes
  except futures.process.BrokenProcessPool as error:
    raise OSError('a process was killed; is there enough memory?') from error
  finally:
    processes.shutdown(cancel_futures=True)


def _start_all(processes: futures.ProcessPoolExecutor, count: int) -> None:
  """Has them start now: each does on a task. Ctrl-C is left to this process from the beginning."""
  mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which they inherit
  try:
    for _ in range(count):
      processes.submit(int)
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent() -> None:
  """Makes a process of the pool end with its parent, however that ends."""

  def follow_parent() -> None:
    if parent := multiprocessing.parent_process():
      parent.join()
    os._exit(1)

  threading.Thread(target=follow_parent, daemon=True).start()


def _run_one(job: ShardJob, running: str) -> ShardReport:
  return write_one_shard(job, lambda: not os.path.exists(running))


# Beam

# Not DirectRunner: that downloads a runner written in Go.
_LOCAL_RUNNER = 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'


def run_beam(
  jobs: Iterable[ShardJob], options: str, work_dir: Path
) -> Generator[ShardReport, None, None]:
  """Runs the jobs by Apache Beam; the workers must see the same folders as this machine.

  The jobs are written to files in `work_dir`, since runners limit the size of the graph that they
  accept (a list of 1.28 million images is 200 MB). `options` are Beam's own, e.g.
  '--runner=FlinkRunner --parallelism=64'; '' runs in this process, for trying it out.

  Raises:
    ValueError: Beam is not installed.
    OSError: the pipeline failed.
  """
  logging.getLogger('apache_beam').setLevel(logging.ERROR)  # a page for every start
  try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
  except ImportError as error:
    raise ValueError(
      "--runner=beam needs Apache Beam: pip install 'slim-inception[beam]'"
    ) from error
  jobs = list(jobs)
  paths = [os.path.abspath(work_dir / f'{job.name}.job') for job in jobs]
  for job, path in zip(jobs, paths, strict=True):
    with files.naming_full_disk(path):
      Path(path).write_bytes(pickle.dumps(job))
  arguments = shlex.split(options)
  if not any(argument.startswith('--runner') for argument in arguments):
    arguments.append(f'--runner={_LOCAL_RUNNER}')
  pipeline = beam.Pipeline(options=PipelineOptions(arguments))
  _ = pipeline | beam.Create(paths) | beam.Reshuffle() | beam.Map(_write_from_file)
  try:
    pipeline.run().wait_until_finish()
  except Exception as error:  # of the runner, whichever it is
    (*_, last_line) = (type(error).__name__, *str(error).strip().splitlines())
    raise OSError(f'the pipeline failed: {last_line.strip()}') from error
  for job in jobs:
    report = shard_job.finished(job)
    if report is None:
      raise OSError(f'the pipeline ended without writing {job.path}')
    yield report


def _write_from_file(path: str) -> None:
  """Runs on a worker; a job whose shard is there already, of a retry, is not done again."""
  job = pickle.loads(Path(path).read_bytes())
  if shard_job.finished(job) is None:
    write_one_shard(job)
