"""Naming what is in image files."""
