"""Looks for the seed that shows a bug which was put in on purpose."""

from __future__ import annotations

from typing import Any, Final

from tests.simulation.mutants import ALL, Mutant, infected
from tests.simulation.plan import schedule
from tests.simulation.simulation import Run, simulate

MOST: Final = 400
"""Seeds in which a bug has to be found."""


def hunt(number: int, most: int = MOST) -> dict[str, Any]:
    """The first seed that shows that mutant, and nothing without it; None for a bug that none of so many shows."""
    mutant = ALL[number]
    for seed in range(most):
        run = infected_run(mutant, seed)
        if run.violations and not simulate(run.schedule).violations:
            return {"name": mutant.name, "rule": mutant.rule, "seed": seed, "says": run.violations[0]}
    return {"name": mutant.name, "rule": mutant.rule, "seed": None, "says": ""}


def infected_run(mutant: Mutant, seed: int) -> Run:
    """One run with the bug inside."""
    with infected(mutant):
        return simulate(schedule(seed, must=mutant.must))
