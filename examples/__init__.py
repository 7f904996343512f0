"""Short programs that use the nets; each runs in seconds: python -m examples.NAME."""
