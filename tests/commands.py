"""The modules that define flags: the commands of slim-inception, and those of experiments."""

from pathlib import Path

from slim_inception.cli import COMMANDS

_FOLDER = Path(__file__).resolve().parent.parent / 'experiments'
_EXPERIMENTS = sorted(
  f'experiments.{path.stem}'
  for path in _FOLDER.glob('*.py')
  if 'def define_flags(' in path.read_text('utf-8')
)
# {'train': its module, ..., 'experiments.elastic': 'experiments.elastic', ...}
MODULES = {name: f'slim_inception.cli.{command.module}' for name, command in COMMANDS.items()}
MODULES |= dict(zip(_EXPERIMENTS, _EXPERIMENTS, strict=True))
