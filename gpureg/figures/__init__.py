"""Figures from finished runs, in one style.

Importing the package is quick: its modules import matplotlib, when a figure is drawn.

    style      colours, sizes, and a figure as PNG, SVG or PDF bytes
    curves     loss and accuracy against the training step; with and without shuffle
    images     weights as images
    path       loss, accuracy and weight norm against λ
    confusion  a confusion matrix
    choice     which figure for which runs, by name
"""
