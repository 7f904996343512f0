"""Nets as schematic pictures: one layout, and renderers of it to SVG and PNG."""
