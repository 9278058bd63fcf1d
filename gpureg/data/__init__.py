"""Data sets: named ones and files, split and with classes chosen; their scaling and the design matrix.

Importing this package loads only NumPy; what reads a file is imported when one is read.
"""

from gpureg.data.blocks import Block, Blocks, Request, open_blocks
from gpureg.data.cache import cache_dir, dataset_dir
from gpureg.data.catalog import CATALOG
from gpureg.data.dataset import Dataset
from gpureg.data.design import design_matrix
from gpureg.data.load import load, load_dataset, make_dataset
from gpureg.data.scaling import Scaling, default_scaling, fit_scaling
from gpureg.data.sources import fetch, find_spec, is_cached
from gpureg.data.weighting import check_class_weights, class_weights

__all__ = [
    "CATALOG",
    "Block",
    "Blocks",
    "Dataset",
    "Request",
    "Scaling",
    "cache_dir",
    "check_class_weights",
    "class_weights",
    "dataset_dir",
    "default_scaling",
    "design_matrix",
    "fetch",
    "find_spec",
    "fit_scaling",
    "is_cached",
    "load",
    "load_dataset",
    "make_dataset",
    "open_blocks",
]
