"""Which solver a fit uses, and why: decided by the options that were given, else by the kind of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpureg.config.names import AUTO, SOLVERS
from gpureg.errors import UsageError, named


@dataclass(frozen=True)
class SolverChoice:
    """The solver's name, `auto` if nothing decides yet, and the reason in the caller's words."""

    solver: str
    reason: str

    @property
    def to_optimum(self) -> bool:
        """Whether it goes to the optimum, on a grid of its own."""
        return self.solver == "lbfgs"


def decide_solver(
    given: Mapping[str, Any], owners: Mapping[str, str], named_set: bool | None, *, where: str = ""
) -> SolverChoice:
    """The solver for the options `given`; `owners` says which solver an option belongs to, if only one has it.

    In this order: the solver that is given; the only solver that has one of the options; `sgd`, the report's, for a
    named data set, and `lbfgs`, to the optimum, for a file or arrays (`named_set`; None: not known yet). `where` says
    where the solver was named, if not by the caller. Raises UsageError for options of both solvers, and for one of the
    solver that was not given.
    """
    given = {name: value for name, value in given.items() if value is not None}
    mine = {solver: [name for name in given if owner_of(name, given, owners) == solver] for solver in SOLVERS}
    solver = given.get("solver", AUTO)
    if solver not in (AUTO, *SOLVERS):
        raise UsageError(f"{named('solver')} is {solver!r}; expected one of {', '.join((AUTO, *SOLVERS))}.")
    if solver != AUTO:
        foreign = [name for other in SOLVERS if other != solver for name in mine[other]]
        if foreign:
            raise UsageError(
                f"{_listed(foreign, given)} {_belongs(foreign)} {_other(solver)}, but {named('solver', solver)} was "
                f"given{where}. Give {named('solver', _other(solver))}, or leave {_them(foreign)} out."
            )
        return SolverChoice(solver, f"{named('solver', solver)} was given{where}")
    both = [names for names in mine.values() if names]
    if len(both) > 1:
        raise UsageError(
            f"{_listed(mine['sgd'], given)} {_belongs(mine['sgd'])} sgd, and {_listed(mine['lbfgs'], given)} "
            f"{_belongs(mine['lbfgs'])} lbfgs; expected options of one solver. Leave the others out."
        )
    for name, names in mine.items():
        if names:
            return SolverChoice(name, f"{_listed(names, given)} {_belongs(names)} it alone")
    if named_set is None:
        return SolverChoice(AUTO, "")
    if named_set:
        return SolverChoice(
            "sgd", f"the report's, for a named data set; {named('solver', 'lbfgs')} goes to the optimum"
        )
    return SolverChoice("lbfgs", f"to the optimum, for data of your own; {named('solver', 'sgd')} takes minibatches")


def owner_of(name: str, given: Mapping[str, Any], owners: Mapping[str, str]) -> str | None:
    """The only solver that has the option; without folds `seeds` are shuffles, which only sgd has."""
    if name == "seeds":
        return "sgd" if given.get("cv") is None else None
    return owners.get(name)


def layered(
    base: Mapping[str, Any], over: Mapping[str, Any], owners: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Options `over` others, as the command line's override a file's; and the names in `base` that are left out.

    If either names the solver, the options in `base` that belong to the other solver are left out.
    """
    both = {**base, **over}
    solver = both.get("solver", AUTO)
    left_out = [name for name in base if name not in over and owner_of(name, both, owners) not in (None, solver)]
    if solver == AUTO:
        return both, []
    return {name: value for name, value in both.items() if name not in left_out}, left_out


def _other(solver: str) -> str:
    return next(other for other in SOLVERS if other != solver)


def _listed(names: list[str], given: Mapping[str, Any]) -> str:
    """Options for a message; a flag is shown as it was given, on or off."""
    return ", ".join(named(name, given[name] if isinstance(given[name], bool) else None) for name in names)


def _belongs(names: list[str]) -> str:
    return "are options of" if len(names) > 1 else "is an option of"


def _them(names: list[str]) -> str:
    return "them" if len(names) > 1 else "it"
