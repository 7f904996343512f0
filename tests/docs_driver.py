"""Runs scripts with many arguments in one process that has imported them before.

  python tests/docs_driver.py < jobs.json > results.json

A job is [module, arguments, folder]. For each a child is forked, goes to the folder and calls the
module's console(), as its script does. A result has `status`, `began`, `stdout` and `stderr`: the
exit status, null for a child that was still at work after SECONDS and was stopped; and whether
main() was reached, which is after the flags were parsed.

TensorFlow starts its threads when it is first used, not when it is imported: so forking is sound.
"""

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
AT_ONCE = 4


def main() -> None:
  sys.path.insert(0, str(ROOT))
  jobs = json.load(sys.stdin)
  modules = {name: importlib.import_module(name) for name, _, _ in jobs}
  waiting, running, results = list(enumerate(jobs)), {}, {}
  while waiting or running:
    while waiting and len(running) < AT_ONCE:
      number, (name, arguments, folder) = waiting.pop(0)
      pid = start(modules[name], arguments, pathlib.Path(folder))
      running[pid] = number, pathlib.Path(folder), time.monotonic() + SECONDS
    time.sleep(0.02)
    for pid, (number, folder, deadline) in list(running.items()):
      ended, status = os.waitpid(pid, os.WNOHANG)
      if not ended and time.monotonic() < deadline:
        continue
      if not ended:
        os.killpg(pid, signal.SIGKILL)  # with what it has started
        os.waitpid(pid, 0)
      del running[pid]
      results[number] = result(os.waitstatus_to_exitcode(status) if ended else None, folder)
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


def result(status: int | None, folder: pathlib.Path) -> dict[str, Any]:
  texts = {name: (folder / f'.{name}').read_text(errors='replace') for name in ('stdout', 'stderr')}
  return {'status': status, 'began': (folder / '.began').exists(), **texts}


if __name__ == '__main__':
  main()
