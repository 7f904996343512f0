"""Naming what is in picture files."""
