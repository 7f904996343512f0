"""Figures of generated images: FID, KID, Inception Score, sFID, precision and recall.

figures.py     the figures, of features, by NumPy alone
statistics.py  mean and covariance of features, as they come and as files
resizing.py    how the network is given images
features.py    images to features
image_sets.py  what REAL and FAKE stand for
config.py      the flags
run.py         sets of images to figures
"""
