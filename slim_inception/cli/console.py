"""What the commands share: one clear line for an error, and exit statuses.

0 done, 1 an error that the user can mend, 2 a flag that is wrong, 130 interrupted.
"""

import atexit
import contextlib
import io
import logging as py_logging
import os
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn, Protocol, TextIO

from absl import app, flags, logging

from slim_inception import files
from slim_inception.cli import interrupts


class Command(Protocol):
  """What a module of a command has; its docstring is its help.

  It can be imported without TensorFlow: --help and wrong flags need not wait for it.
  """

  __doc__: str | None

  def define_flags(self) -> None:
    """Defines the flags."""

  def main(self, argv: list[str], /) -> None:
    """Does it; gets the command's name and the arguments that are no flags."""


def run(
  command: Command,
  argv: list[str],
  operands: str | None = None,
) -> NoReturn:
  """Defines and parses the flags of a command, runs its `main` and exits.

  ValueError, OSError, MemoryError and TensorFlow's own errors become `<name>: <message>` on stderr;
  with `--debug` their traceback is shown. Anything else is a bug and always shows it.

  Args:
    command: the module.
    argv: the command's name, as errors show it, and its arguments.
    operands: what the arguments that are no flags are called, and then there must be at least one;
      without it there must be none.
  """
  before = set(flags.FLAGS)
  command.define_flags()
  if 'debug' not in flags.FLAGS:
    flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')
  names = [name for name in flags.FLAGS if name not in before]
  logging.set_verbosity(logging.INFO)
  logging.use_absl_handler()
  logging.get_absl_handler().setFormatter(_LineFormatter())
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='backslashreplace')  # whatever letters the terminal has

  def main(rest: list[str]) -> None:
    with interrupts.raising():
      command.main(rest)

  app.run(
    lambda rest: _guarded(main, rest),
    argv=argv,
    flags_parser=lambda argv: _parse(command.__doc__ or '', names, argv, operands),
  )
  raise AssertionError('app.run exits')


def say(*lines: str, file: TextIO | None = None) -> None:
  """Prints lines, on stdout by default; whatever names they hold, a terminal only shows them."""
  with _naming_stream(file):
    for line in lines:
      print(files.printable(line), file=file)


def _naming_stream(file: TextIO | None = None) -> contextlib.AbstractContextManager[None]:
  return files.naming_full_disk('standard error' if file is sys.stderr else 'standard output')


class _LineFormatter(py_logging.Formatter):
  """The message as one line, without time and place in the code, as `say` prints it."""

  def formatMessage(self, record: py_logging.LogRecord) -> str:
    return files.printable(record.message)


def _parse(text: str, names: Sequence[str], argv: list[str], operands: str | None) -> list[str]:
  if any(argument in ('--help', '-help', '-h') for argument in argv[1:]):
    show(argv[0], f'{text.strip()}\n\n{_flag_help(names)}')
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    fail(argv[0], error, 2)
  if operands and len(rest) == 1:
    fail(argv[0], f'{operands} is missing: at least one is needed (--help shows how)', 2)
  if len(rest) > 1 and not operands:
    fail(argv[0], f'unexpected argument {rest[1]!r}: flags are written --name=value', 2)
  return rest


def _flag_help(names: Sequence[str]) -> str:
  sections = []
  for title, members in flags.FLAGS.flags_by_module_dict().items():
    entries = []
    for flag in members:
      if flag.name not in names:
        continue
      default = '' if flag.default is None else f' (default: {flag.default_as_str})'
      entry = f'--{flag.name}: {" ".join(flag.help.split())}{default}'
      entries.append(textwrap.indent('\n    '.join(textwrap.wrap(entry, 92)), '  '))
    if entries:
      heading = 'Flags' if '.' in title or title == '__main__' else title
      sections.append('\n'.join([f'{heading}:', *entries]))
  return '\n\n'.join(sections)


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
  try:
    main(argv)
    with _naming_stream():
      sys.stdout.flush()
  except KeyboardInterrupt as error:
    with contextlib.suppress(SystemExit):
      fail(argv[0], str(error) or 'interrupted', 130)
    # An interpreter whose import of TensorFlow was broken off ended itself by SIGINT at last, after
    # sys.exit(130): it is not asked.
    atexit._run_exitfuncs()
    os._exit(130)
  except BrokenPipeError:  # `| head` has seen enough
    _close_stdout()
    sys.exit(128 + signal.SIGPIPE)
  except flags.Error as error:
    fail(argv[0], error, 2)
  except Exception as error:
    is_debugging = flags.FLAGS.is_parsed() and flags.FLAGS.debug
    if is_debugging or not isinstance(error, _users_errors()):
      raise
    fail(argv[0], error, 1)


def _users_errors() -> tuple[type[Exception], ...]:
  """What a user can mend; TensorFlow's are among them where the script has imported it."""
  tensorflow = sys.modules.get('tensorflow')
  return (ValueError, OSError, MemoryError) + ((tensorflow.errors.OpError,) if tensorflow else ())


def show(program: str, text: str) -> NoReturn:
  """Prints a text and exits."""

  def print_it(_: list[str]) -> None:
    with _naming_stream():
      print(text)

  _guarded(print_it, [program])
  sys.exit(0)


def fail(program: str, error: BaseException | str, status: int) -> NoReturn:
  """Says what is wrong, in one line on stderr, and exits."""
  say(f'{program}: {one_line(error)}', file=sys.stderr)
  try:
    sys.stdout.flush()
  except OSError:
    _close_stdout()
  sys.exit(status)


def _close_stdout() -> None:
  """Has the flush at the end go nowhere."""
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: BaseException | str) -> str:
  """What an error says, for a line of `say`.

  Of the operating system's errors, TensorFlow's among them, `path: reason`; of all others the first
  line, without the name of the operation in front.
  """
  cause = files.system_error(error) if isinstance(error, Exception) else None
  if cause and cause.strerror and cause.filename is not None:
    return f'{cause.filename}: {cause.strerror}'
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  message = str(getattr(error, 'message', None) or error).strip()
  message = re.sub(r'^\{\{\w+ [^{}]*\}\} ', '', message)  # {{function_node ...}} of TensorFlow
  nothing = 'not enough memory' if isinstance(error, MemoryError) else type(error).__name__
  lines = (message or nothing).split('\n')
  return lines[0].strip()
