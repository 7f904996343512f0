"""Commands in processes of their own, without the seconds that an import of TensorFlow takes.

A process that has imported TensorFlow and the commands, the zygote, forks one for each: TensorFlow
starts its threads when it is first used, not when it is imported. `start` and `run` are like
`subprocess.Popen` and `subprocess.run`; what they start leads a session of its own, is never older
than the tests, and ends as an interpreter ends. Only its hash seed is not its own.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from concurrent import futures
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
ADDRESS = 'SLIM_INCEPTION_TEST_ZYGOTE'  # environment variable: the socket of one that is shared
PROJECT = ('datasets', 'nets', 'preprocessing', 'slim_inception', 'tests')  # packages
TIMEOUT = 300.0  # seconds
_INT = struct.Struct('i')


# What the commands import in their `main`, since they start without TensorFlow.
_MAINS = (
  'average.averaging',
  'bench.net_rate',
  'bench.startup',
  'classify.run',
  'doctor.embeddings',
  'doctor.run',
  'draw.layout',
  'evaluate.during_training',
  'evaluate.following',
  'export.export',
  'fid.run',
  'nets.catalogue',
  'nets.convert.conversion',
  'train.trainer',
)


class Process:
  """A command that runs.

  Attributes:
    pid: its process id, which is that of its group too.
    returncode: None while it runs; -N after signal N.
    stdout: what it prints, as text, and what it says on stderr if `merge` is true.
    stderr: what it says on stderr.
  """

  def __init__(self, request: dict[str, Any], stdin: bytes, merge: bool):
    self.returncode: int | None = None
    ends = [os.pipe(), os.pipe()]
    self.stdout, self.stderr = (os.fdopen(end[0], encoding='utf-8', newline='') for end in ends)
    self._socket = socket.socket(socket.AF_UNIX)
    self._socket.connect(address())
    with contextlib.ExitStack() as stack:
      files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
      for file, content in zip(files, (json.dumps(request).encode(), stdin), strict=True):
        file.write(content)
        file.seek(0)
      outputs = [ends[0][1], ends[0 if merge else 1][1]]
      socket.send_fds(self._socket, [b'.'], [*(file.fileno() for file in files), *outputs])
    for end in ends:
      os.close(end[1])
    (self.pid,) = _INT.unpack(self._socket.recv(_INT.size))

  def wait(self, timeout: float | None = TIMEOUT) -> int:
    """Its status; raises TimeoutError."""
    if self.returncode is None:
      self._socket.settimeout(timeout)
      (self.returncode,) = _INT.unpack(self._socket.recv(_INT.size))
      self._socket.close()
    return self.returncode

  def poll(self) -> int | None:
    with contextlib.suppress(BlockingIOError):
      self.wait(timeout=0)
    return self.returncode

  def communicate(self, timeout: float = TIMEOUT) -> tuple[str, str]:
    """What is left of stdout and stderr; kills what takes too long."""
    with futures.ThreadPoolExecutor(2) as pool:
      rest = [pool.submit(file.read) for file in (self.stdout, self.stderr)]
      if futures.wait(rest, timeout).not_done:
        self.kill()
        raise TimeoutError(f'process {self.pid} ran for {timeout} s: {rest[0].result()}')
    self.wait(timeout)
    self.close()
    return rest[0].result(), rest[1].result()

  def send_signal(self, number: int) -> None:
    if self.poll() is None:
      os.kill(self.pid, number)

  def kill(self) -> None:
    """Ends it and what it has started."""
    if self.poll() is None:
      os.killpg(self.pid, signal.SIGKILL)

  def close(self) -> None:
    """Ends it if it still runs."""
    self.kill()
    self.wait()
    self.stdout.close()
    self.stderr.close()


def start(
  *arguments: object,
  code: str = '',
  cwd: pathlib.Path | None = None,
  env: dict[str, str] | None = None,
  stdin: bytes = b'',
  merge: bool = False,
) -> Process:
  """Starts `slim-inception ARGUMENTS`, or `python -c CODE ARGUMENTS`.

  The code imports the project itself, by PYTHONPATH: only other packages are there already.

  Args:
    arguments: the command and its flags.
    code: what to run instead of a command.
    cwd: the folder to start in; this one by default.
    env: environment variables to add.
    stdin: all of standard input.
    merge: whether stdout and stderr are one, as at a terminal.
  """
  request = {
    'arguments': [str(argument) for argument in arguments],
    'code': code,
    'cwd': str(cwd or pathlib.Path.cwd()),
    'env': {**os.environ, **(env or {})},
  }
  return Process(request, stdin, merge)


def run(*arguments: object, timeout: float = TIMEOUT, **kwargs: Any) -> subprocess.CompletedProcess:
  """`start`, and its end: returncode, stdout and stderr."""
  process = start(*arguments, **kwargs)
  with contextlib.closing(process):
    stdout, stderr = process.communicate(timeout)
    return subprocess.CompletedProcess(arguments, process.wait(), stdout, stderr)


@functools.cache
def address() -> str:
  """The socket of the zygote that processes of pytest share, or else of one for this process."""
  path = os.environ.get(ADDRESS) or launch(tempfile.mkdtemp(prefix='zygote-'))
  deadline = time.monotonic() + TIMEOUT
  while not os.path.exists(path):
    assert time.monotonic() < deadline, 'no zygote'
    time.sleep(0.05)
  return path


def launch(folder: str) -> str:
  """Starts a zygote that ends with this process; the socket that it will listen at."""
  path = os.path.join(folder, 'socket')
  process = subprocess.Popen(
    [sys.executable, '-m', 'tests.zygote', path],
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'TF_CPP_MIN_LOG_LEVEL': '3'},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,  # as sys.stdout and sys.stderr of the forks will be
    stderr=subprocess.PIPE,
    start_new_session=True,
  )
  atexit.register(process.communicate)  # the end of its stdin is its end
  return path


def _preload() -> None:
  """Imports what commands need, as they do."""
  from slim_inception import kernels

  kernels.choose()
  from tests import tiny

  tiny.register()  # before the flags list their choices
  from slim_inception import cli

  importlib.import_module('slim_inception.cli.console')
  importlib.import_module('slim_inception.cli.quiet')
  for command in cli.COMMANDS.values():
    importlib.import_module(f'slim_inception.cli.{command.module}')
  for module in _MAINS:
    importlib.import_module(f'slim_inception.{module}')
  gc.collect()
  gc.freeze()  # or every process would walk through all of TensorFlow once more at its end


def _serve(path: str) -> dict[str, Any] | None:
  """Serves; returns a request in a process that is there to do it, else None at the end."""
  signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the monitors
  with socket.socket(socket.AF_UNIX) as server:
    server.bind(path + '.new')
    server.listen(64)
    os.rename(path + '.new', path)
    while server in select.select([server, sys.stdin], [], [])[0]:
      if 'tensorflow' not in sys.modules:
        _preload()  # for the first who asks
      client, _ = server.accept()
      with client:
        if not os.fork():
          server.close()
          return _monitor(client)
  os.unlink(path)
  os.rmdir(os.path.dirname(path))
  return None


def _monitor(client: socket.socket) -> dict[str, Any]:
  """Forks what does the request, and there returns it; tells the client of its end.

  A client that goes away takes it along.
  """
  signal.signal(signal.SIGCHLD, signal.SIG_DFL)
  descriptors = socket.recv_fds(client, 1, 4)[1]
  pid = os.fork()
  if not pid:
    client.close()
    return _become(*descriptors)
  for descriptor in descriptors:
    os.close(descriptor)
  client.send(_INT.pack(pid))
  while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
    if select.select([client], [], [], 0.01)[0]:
      os.killpg(pid, signal.SIGKILL)
      os._exit(0)
  with contextlib.suppress(OSError):
    client.send(_INT.pack(os.waitstatus_to_exitcode(ended[1])))
  os._exit(0)


def _become(request_file: int, *standard: int) -> dict[str, Any]:
  """Makes this process what the request asks for; returns the request."""
  os.setsid()
  with open(request_file) as file:
    request = json.load(file)
  for target, descriptor in enumerate(standard):
    os.dup2(descriptor, target)
    os.close(descriptor)
  sys.stdin = open(0)  # noqa: SIM115 it was a pipe
  signal.signal(signal.SIGINT, signal.default_int_handler)
  os.chdir(request['cwd'])
  os.environ.clear()
  os.environ.update(request['env'])
  sys.argv[1:] = request['arguments']
  return request


def _do(request: dict[str, Any]) -> None:
  if request['code']:
    for name in [name for name in sys.modules if name.split('.')[0] in PROJECT]:
      del sys.modules[name]
    search = request['env'].get('PYTHONPATH', '').split(os.pathsep)
    sys.path[:] = ['', *search, *(path for path in sys.path if path != str(ROOT))]
    exec(compile(request['code'], '<string>', 'exec'), {'__name__': '__main__'})
  else:
    from slim_inception import cli

    cli.main(request['arguments'])


if __name__ == '__main__' and (request := _serve(sys.argv[1])):
  _do(request)
