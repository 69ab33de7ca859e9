"""What operators ask of a desk's sagas in a run: decided by the seed alone, before anything has happened."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from types import MappingProxyType
from typing import Any, Final

from tests.system.operators.desk_sagas import Shape

SHAPES: Final[Mapping[Shape, int]] = MappingProxyType({
    Shape.STEADY: 5, Shape.AWAITING: 5, Shape.NAPPING: 3, Shape.FALTERING: 5, Shape.FAILING: 2, Shape.UNHANDLED: 4,
    Shape.STUBBORN: 4, Shape.CONTRADICTED: 3, Shape.RETIRED: 6, Shape.MISTYPED: 3,
})  # fmt: skip
"""How many of each forty."""

VERBS: Final = ("cancel", "retry", "skip", "complete", "acknowledge", "pause", "resume", "terminate")
OF_STEPS: Final = ("retry", "skip", "complete")
CONTRARY: Final = (
    ("cancel", "terminate"), ("pause", "cancel"), ("pause", "resume"), ("retry", "complete"), ("cancel", "cancel"),
    ("terminate", "pause"), ("skip", "retry"),
)  # fmt: skip
"""What two people ask at once."""

PEOPLE: Final = ("ann", "bob", "carol", "dan")
MOST_MOVES: Final = 4
COORDINATORS: Final = 2

OF_NOBODY, OF_ANOTHER_RUN = 0.03, 0.04
OVER_TOPIC, TWICE, BY_TWO = 0.25, 0.2, 0.2
AT_ITS_STAND, FITTING = 0.7, 0.7
"""Shares. A step's verb is mostly for the step at which sagas of this shape stand."""

STANDS_AT: Final = 2


class Way(StrEnum):
    HTTP = "http"
    TOPIC = "topic"


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One request. to: the coordinator, over HTTP. copies: sent at once, with one id. body: beside reason and actor."""

    id: str
    saga: str
    verb: str
    actor: str
    way: Way = Way.HTTP
    to: int = 0
    copies: int = 1
    run: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        return f"{self.actor} knows why ({self.id})"

    @property
    def fields(self) -> dict[str, Any]:
        """Of the request's body, whichever way it goes."""
        return {"reason": self.reason, "actor": self.actor, **self.body}


@dataclass(frozen=True)
class Move:
    """A saga is started, or is asked for something, by as many people as there are asks."""

    saga: str
    shape: Shape
    asks: Sequence[Ask] = ()


def shapes(sagas: int) -> dict[str, Shape]:
    """The ids of so many sagas."""
    kinds = [kind for kind, number in SHAPES.items() for _ in range(number)]
    return {f"DESK-{number}": kinds[number % len(kinds)] for number in range(1, sagas + 1)}


class Planner:
    """Makes asks, each with an id of its own."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._numbers = count(1)

    def moves(self, sagas: Mapping[str, Shape]) -> list[Move]:
        """The first of each saga is its start; all of all sagas are mixed."""
        order = [saga for saga in sagas for _ in range(1 + self._chance.randint(0, MOST_MOVES))]
        self._chance.shuffle(order)
        begun: set[str] = set()
        moves: list[Move] = []
        for saga in order:
            moves.append(Move(saga, sagas[saga], [*self._asks(saga)] if saga in begun else ()))
            begun.add(saga)
        return moves

    def ask(self, saga: str, verb: str, *, step: int = STANDS_AT, **fields: Any) -> Ask:
        """One that is due: by whoever is there, over HTTP, to either coordinator."""
        body = {**fields, **({"step": step} if verb in OF_STEPS else {})}
        return Ask(
            id=f"ask-{next(self._numbers)}", saga=saga, verb=verb, actor=self._chance.choice(PEOPLE),
            to=self._chance.randrange(COORDINATORS), body=body,
        )  # fmt: skip

    def _asks(self, saga: str) -> Iterator[Ask]:
        if self._chance.random() < BY_TWO:
            for verb in self._chance.choice(CONTRARY):
                yield self._any(saga, verb)
        else:
            yield self._any(saga, self._chance.choice(VERBS))

    def _any(self, saga: str, verb: str) -> Ask:
        chance = self._chance
        number, strange = next(self._numbers), chance.random()
        return Ask(
            id=f"ask-{number}",
            saga=f"NOBODY-{number}" if strange < OF_NOBODY else saga,
            verb=verb,
            actor=chance.choice(PEOPLE),
            way=Way.TOPIC if chance.random() < OVER_TOPIC else Way.HTTP,
            to=chance.randrange(COORDINATORS),
            copies=2 if chance.random() < TWICE else 1,
            run="another" if OF_NOBODY <= strange < OF_NOBODY + OF_ANOTHER_RUN else None,
            body=self._body(verb),
        )

    def _body(self, verb: str) -> dict[str, Any]:
        if verb not in OF_STEPS:
            return {}
        step = STANDS_AT if self._chance.random() < AT_ITS_STAND else self._chance.randint(1, 4)
        if verb != "complete":
            return {"step": step}
        fits = self._chance.random() < FITTING
        return {"step": step, "output": output(step) if fits else {"place": "everywhere"}}


def output(step: int) -> dict[str, Any]:
    """One that a step's model reads."""
    return {"place": step, "ticket": "by hand"}
