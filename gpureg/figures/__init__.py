"""Figures from finished runs, one style for all; the only room that knows matplotlib.

Importing the package is quick: matplotlib is imported by its modules, where a figure is drawn.

    style      colours, sizes, and a figure as PNG, SVG or PDF bytes
    curves     loss and accuracy against the training step; with and without shuffle
    images     weights as images
    path       loss, accuracy and weight norm against λ
    confusion  a confusion matrix
    choice     which figure for which runs, by name
    report     the nine figures of the report and its printed numbers
    page       the report as one HTML page and as Markdown
"""
