"""Every option as a value: `DataConfig` (what to load), `FitConfig` (what to fit), both frozen and checked once.

A field is the only place where an option's type, default, bounds and help are written: the command line's options, the
keys of config.toml and the loading of data are made from the fields. Nothing heavy is imported here, so that
`gpureg --help` stays quick.
"""

from gpureg.config.data import DataConfig, DataOptions
from gpureg.config.fit import LBFGS_GRID, OWNERS, REPORT_LAMBDAS, FitConfig
from gpureg.config.keywords import FitOptions
from gpureg.config.names import AUTO, CLASS_WEIGHTS, DTYPES, FIGURE_FORMATS, FIGURES, SOLVERS, TASKS
from gpureg.config.options import About, ConfigOption, check_options, options_of, refuse_unknown
from gpureg.config.run import joined, parted
from gpureg.config.solver import SolverChoice, decide_solver, layered

__all__ = [
    "AUTO",
    "CLASS_WEIGHTS",
    "DTYPES",
    "FIGURES",
    "FIGURE_FORMATS",
    "LBFGS_GRID",
    "OWNERS",
    "REPORT_LAMBDAS",
    "SOLVERS",
    "TASKS",
    "About",
    "ConfigOption",
    "DataConfig",
    "DataOptions",
    "FitConfig",
    "FitOptions",
    "SolverChoice",
    "check_options",
    "decide_solver",
    "joined",
    "layered",
    "options_of",
    "parted",
    "refuse_unknown",
]
