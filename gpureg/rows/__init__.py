"""Sums over the rows of a data set."""
