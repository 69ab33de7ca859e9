"""Lints: what is found in a saga's code by looking at it, without running it (`sagabus check`).

A rule is a function from a saga's function, as syntax (`saga_source.SagaFunction`), to findings. `found` walks the
saga's function and those of its own module that it names. A line with `# sagabus: ignore[code]` is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from sagabus.commands.check.finding import Finding
from sagabus.commands.check.lints import awaiting, compensation, global_values, iteration, outside, refusal_codes
from sagabus.commands.check.lints.saga_source import SagaFunction, functions_of
from sagabus.coordinator import SagaDefinition

Rule = Callable[[SagaFunction], Iterator[Finding]]

RULES: Final[Sequence[Rule]] = (
    outside.found, iteration.found, awaiting.found, compensation.found, refusal_codes.found, global_values.found,
)  # fmt: skip


def found(definitions: Iterable[SagaDefinition[Any, Any]]) -> list[Finding]:
    """By file and line, each once: two sagas may share a function."""
    by_place: dict[tuple[str, str, str], Finding] = {}
    for definition in definitions:
        for function in functions_of(definition):
            for rule in RULES:
                for one in rule(function):
                    if not function.ignores(one):
                        by_place.setdefault((one.place, one.code, one.what), one)
    return sorted(by_place.values(), key=_place)


def _place(one: Finding) -> tuple[str, int, str]:
    file, _, line = one.place.rpartition(":")
    return file, int(line), one.code
