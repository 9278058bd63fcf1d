"""The names that an option may have, each list once."""

from gpureg.losses import LOSSES

TASKS = tuple(LOSSES)
AUTO = "auto"
SOLVERS = ("sgd", "lbfgs")
DTYPES = ("float32", "float64")
KEEPS = ("last", "best")
SELECTS = ("min", "1se")
SCORES = ("loss", "accuracy", "balanced-accuracy", "roc-auc")
REFITS = ("train", "all")
SHUFFLES = ("rows", "blocks")
SCALES = ("none", "standard", "pixels")
CATEGORICALS = ("refuse", "one-hot")
MISSINGS = ("refuse", "mean", "drop")
CLASS_WEIGHTS = ("none", "balanced")
ENGINES = ("local", "dask")
KERNELS = ("auto", "fused", "reference", "pair")
FIGURES = ("loss", "accuracy", "shuffle", "path", "path-accuracy", "path-score", "norm", "weights", "confusion")
FIGURE_FORMATS = ("png", "svg", "pdf")
