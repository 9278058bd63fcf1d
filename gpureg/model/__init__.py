"""Trained linear models: prediction, and the way to scikit-learn."""
