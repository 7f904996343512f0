"""Runs scripts with many arguments in one process that has imported them before.

  python tests/docs_driver.py < jobs.json > results.json

A job is [module, arguments, folder]. For each a child is forked, goes to the folder and calls the
module's console(), as its script does. A result has `status`, `began`, `stdout` and `stderr`: the
exit status, null for a child that was stopped because main() had been at work for SECONDS; and
whether main() was reached, which is after the flags were parsed.

TensorFlow starts its threads when it is first used, not when it is imported: so forking is sound.
"""

import dataclasses
import importlib
import json
import os
import pathlib
import signal
import sys
import time
import traceback
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS = 5.0
PATIENCE = 60.0  # until main() begins
POLL = 0.02
AT_ONCE = 4


@dataclasses.dataclass
class Child:
  """A process that runs a job."""

  number: int  # of the job
  folder: pathlib.Path
  before: float = 0.0  # seconds until main() began, and since then
  since: float = 0.0

  def began(self) -> bool:
    return (self.folder / '.began').exists()

  def is_to_be_stopped(self) -> bool:
    """Counts a poll: by the clock, a suspended machine would take away what was never given."""
    if self.began():
      self.since += POLL
    else:
      self.before += POLL
    return self.since > SECONDS or self.before > PATIENCE

  def result(self, status: int | None) -> dict[str, Any]:
    texts = {
      name: (self.folder / f'.{name}').read_text(errors='replace') for name in ('stdout', 'stderr')
    }
    return {'status': status, 'began': self.began(), **texts}


def main() -> None:
  sys.path.insert(0, str(ROOT))
  jobs = json.load(sys.stdin)
  modules = {name: importlib.import_module(name) for name, _, _ in jobs}
  waiting, running, results = list(enumerate(jobs)), {}, {}
  while waiting or running:
    while waiting and len(running) < AT_ONCE:
      number, (name, arguments, folder) = waiting.pop(0)
      child = Child(number, pathlib.Path(folder))
      running[start(modules[name], arguments, child.folder)] = child
    time.sleep(POLL)
    for pid, child in list(running.items()):
      ended, status = os.waitpid(pid, os.WNOHANG)
      if not ended and not child.is_to_be_stopped():
        continue
      if not ended:
        os.killpg(pid, signal.SIGKILL)  # with what it has started
        os.waitpid(pid, 0)
      del running[pid]
      results[child.number] = child.result(os.waitstatus_to_exitcode(status) if ended else None)
  json.dump([results[number] for number in range(len(jobs))], sys.stdout)


def start(module: Any, arguments: list[str], folder: pathlib.Path) -> int:
  """Forks a child that runs `console()`; its process id."""
  pid = os.fork()
  if pid:
    return pid
  status = 1
  try:
    os.setsid()
    os.chdir(folder)
    for descriptor, name in ((1, '.stdout'), (2, '.stderr')):
      os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    sys.stdout, sys.stderr = os.fdopen(1, 'w'), os.fdopen(2, 'w')
    sys.argv = [str(ROOT / f'{module.__name__}.py'), *arguments]
    module.main = Noted(module.main)
    module.console()
    status = 0
  except SystemExit as end:
    status = end.code if isinstance(end.code, int) else int(end.code is not None)
    if isinstance(end.code, str):  # as the interpreter does
      print(end.code, file=sys.stderr)
  except BaseException:
    traceback.print_exc()
  finally:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class Noted:
  """`main`, which leaves a file when it begins; what console asks of it is there."""

  def __init__(self, function: Any):
    self._function = function
    self.__globals__ = function.__globals__

  def __call__(self, argv: list[str]) -> None:
    pathlib.Path('.began').touch()
    self._function(argv)


if __name__ == '__main__':
  main()
