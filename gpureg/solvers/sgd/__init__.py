"""Minibatch gradient descent with early stopping."""
