"""Synchronous training: configuration, input, optimizers, the step and the loop."""
