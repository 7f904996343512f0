"""Nets as schematic drawings: a layout, and its text as SVG."""
