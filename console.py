"""What the scripts share at the command line: one clear line for an error, and exit statuses.

0 done, 1 an error that the user can mend, 2 a flag that is wrong, 130 interrupted.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from absl import app, flags

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')  # before TensorFlow is imported: no chatter


def run(main: Callable[[list[str]], None]) -> None:
  """Parses the flags, runs `main` and exits; the caller has defined the flags.

  ValueError, OSError and TensorFlow's own errors become `<script>: <message>` on stderr; with
  `--debug` their traceback is shown. Anything else is a bug and always shows it.
  """
  if 'debug' not in flags.FLAGS:
    flags.DEFINE_bool('debug', False, 'Show the traceback of an error.')
  app.run(lambda argv: _guarded(main, argv), flags_parser=lambda argv: _parse(main, argv))


def _parse(main: Callable, argv: list[str]) -> list[str]:
  script = _script(argv)
  if any(argument in ('--help', '-help', '-h') for argument in argv[1:]):
    module = sys.modules[main.__module__]
    print(f'{(module.__doc__ or script).strip()}\n\n{_flag_help(main)}')
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    _fail(script, error, 2)
  if len(rest) > 1:
    _fail(script, f'unexpected argument {rest[1]!r}: flags are written --name=value', 2)
  return rest


def _flag_help(main: Callable) -> str:
  """Help on the flags defined in the module of `main`, however the script was started."""
  by_module = flags.FLAGS.flags_by_module_dict()
  names = {main.__globals__['__name__'], sys.argv[0]}
  lines = []
  for flag in sorted({f.name: f for n in names for f in by_module.get(n, [])}.items()):
    name, flag = flag
    default = '' if flag.default is None else f' (default: {flag.default_as_str})'
    lines.append(f'  --{name}: {flag.help}{default}')
  return '\n'.join(lines)


def _guarded(main: Callable[[list[str]], None], argv: list[str]) -> None:
  try:
    main(argv)
  except KeyboardInterrupt:
    _fail(_script(argv), 'interrupted', 130)
  except Exception as error:
    if flags.FLAGS.debug or not _for_the_user(error):
      raise
    _fail(_script(argv), error, 1)


def _for_the_user(error: Exception) -> bool:
  tensorflow = sys.modules.get('tensorflow')  # not imported for the sake of a wrong flag
  kinds = (ValueError, OSError) + ((tensorflow.errors.OpError,) if tensorflow else ())
  return isinstance(error, kinds)


def _script(argv: list[str]) -> str:
  return Path(argv[0]).stem


def _fail(script: str, error: object, status: int) -> None:
  if isinstance(error, OSError) and error.strerror:
    message = f'{error.filename}: {error.strerror}' if error.filename else error.strerror
  else:
    message = getattr(error, 'message', None) or str(error)
  line = next(iter(message.strip().splitlines()), '') or type(error).__name__
  print(f'{script}: {line}', file=sys.stderr)
  sys.exit(status)
