"""Embeddings of image files."""
