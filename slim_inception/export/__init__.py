"""Checkpoints as what others run: SavedModel, TFLite and ONNX."""
