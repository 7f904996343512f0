"""The experiments of the papers, as commands in a checkout: see docs/experiments.md."""
