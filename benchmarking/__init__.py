"""How fast it is: the measurements of benchmark_image_classifier.py."""
