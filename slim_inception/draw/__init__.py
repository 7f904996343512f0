"""Nets as schematic images: one layout, and renderers of it to SVG and PNG."""
