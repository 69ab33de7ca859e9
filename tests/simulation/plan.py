"""What a run is made of: orders and faults, each with its time. Made from a seed; a smaller plan is a plan as well.

Swarm testing (Groce et al., 2012): each plan uses only some kinds of faults, so that rare combinations come up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from pydantic import BaseModel

from tests.simulation.workload import MOODS, PROGRAMS, Leg

COORDINATORS: Final = ("coordinator-1", "coordinator-2")
PARTICIPANTS: Final = ("alpha-1", "alpha-2", "beta-1")
PROCESSES: Final = COORDINATORS + PARTICIPANTS
SHARDS: Final = 2

KINDS: Final = (
    "kill", "kill_at", "stop", "terminate", "commit_really", "commit_never", "publish", "database_down", "bus_down",
    "rebalance", "lose", "copy", "delay", "replace_bus", "remake_topic", "prune", "restore", "skew", "cut", "reuse",
    "refuse", "deploy",
)  # fmt: skip
_BESIDE: Final = ("deploy",)
"""Chosen beside the others, so that each seed kept its run when they were added."""


class Asked(BaseModel):
    """What an operator asks of a saga. copies: how often the request is sent, with one id."""

    at: float
    verb: str
    copies: int = 1


class Order(BaseModel):
    """A start request and what follows it. copies: how often it is sent. astray: to any partition. mistyped: of a saga
    that nobody has."""

    at: float
    id: str
    program: str
    legs: list[Leg]
    copies: int = 1
    astray: bool = False
    mistyped: bool = False
    cancel_at: float | None = None
    event_at: float | None = None
    asked: list[Asked] = []


class Fault(BaseModel):
    """target: a process, a service, a topic. amount: seconds, a count or a share, as the kind has it."""

    at: float
    kind: str
    target: str = ""
    amount: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """All of one run. An operator cancels what is blocked, if anything may block: see `blocks`."""

    seed: int
    orders: tuple[Order, ...]
    faults: tuple[Fault, ...]

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(fault.kind for fault in self.faults)

    @property
    def blocks(self) -> bool:
        """Whether sagas may meet code that is not theirs, or none."""
        return "deploy" in self.kinds or any(order.mistyped for order in self.orders)

    def without(self, number: int) -> Schedule:
        """The items are the orders, then the faults."""
        orders = len(self.orders)
        if number < orders:
            return replace(self, orders=self.orders[:number] + self.orders[number + 1 :])
        number -= orders
        return replace(self, faults=self.faults[:number] + self.faults[number + 1 :])

    @property
    def size(self) -> int:
        return len(self.orders) + len(self.faults)

    def told(self) -> str:
        """For people."""
        lines = [f"seed {self.seed}"]
        items: list[Order | Fault] = [*self.orders, *self.faults]
        for item in sorted(items, key=lambda item: item.at):
            fields = item.model_dump(exclude_defaults=True, exclude={"at", "legs", "asked"})
            said = " ".join(
                f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in fields.items()
            )
            legs = ""
            if isinstance(item, Order):
                legs = " legs=" + ",".join(_leg(leg) for leg in item.legs)
                legs += "".join(f" {asked.verb}@{asked.at:.3f}" for asked in item.asked)
            lines.append(f"  {item.at:7.3f}  {'order' if isinstance(item, Order) else 'fault'} {said}{legs}")
        return "\n".join(lines)


def _leg(leg: Leg) -> str:
    limit = "" if leg.timeout is None else f"<{leg.timeout:g}s"
    return f"{leg.service}{'!' if leg.outside else ''}:{leg.mood}{limit}"


def schedule(seed: int, *, must: tuple[str, ...] = (), without: tuple[str, ...] = ()) -> Schedule:
    """must: kinds of faults that are in it for sure; without: that are not."""
    random = Random(f"plan {seed}")
    drawn = (kind for kind in KINDS if kind not in _BESIDE)
    on = [kind for kind in drawn if kind not in without and (kind in must or random.random() < _share(kind))]
    if random.random() < 0.1 and not must:
        on = []
    if "prune" in on:  # its windows are seconds, and so are its margins: clocks agree, and no backup is older (P5)
        on = [kind for kind in on if kind not in ("skew", "restore")]
    length = random.choice((3.0, 6.0, 10.0))
    orders = tuple(_order(random, number, length) for number in range(random.choice((2, 4, 7))))
    operator = Random(f"operator {seed}")
    orders = tuple(order.model_copy(update={"asked": _asked(operator, order.at)}) for order in orders)
    times = {kind: 1 if kind in _ONCE else random.choice((1, 1, 2, 3)) for kind in on}
    faults = [_fault(random, kind, length) for kind, count in times.items() for _ in range(count)]
    beside = Random(f"deploy {seed}")
    if "deploy" in must or (on and "deploy" not in without and beside.random() < 0.2):
        faults += [_fault(beside, "deploy", length) for _ in range(beside.choice((1, 1, 2)))]
        mistyped = _order(beside, len(orders), length).model_copy(update={"mistyped": True})
        orders += (mistyped,) if beside.random() < 0.3 else ()
    return Schedule(seed, orders, tuple(sorted(faults, key=lambda fault: fault.at)))


_ONCE: Final = ("replace_bus", "restore", "prune", "reuse")


def _share(kind: str) -> float:
    return 0.08 if kind in _ONCE or kind == "remake_topic" else 0.3


def _order(random: Random, number: int, length: float) -> Order:
    program = random.choice(PROGRAMS)
    legs = [_random_leg(random, program) for _ in range(random.choice((1, 2, 2, 3)))]
    at = random.uniform(0.0, length)
    return Order(
        at=at,
        id=f"ORD-{number}",
        program=program,
        legs=legs,
        copies=random.choice((1, 1, 1, 2)),
        astray=random.random() < 0.2,
        cancel_at=at + random.uniform(-0.3, 3.0) if random.random() < 0.2 else None,
        event_at=at + random.uniform(-0.5, 4.0) if program == "waits" and random.random() < 0.7 else None,
    )


def _asked(random: Random, start: float) -> list[Asked]:
    """Of most sagas nothing."""
    asked: list[Asked] = []
    if random.random() < 0.3:
        at = start + random.uniform(0.0, 3.0)
        for verb, after in (("pause", 0.0), ("resume", random.choice((0.3, 2.0, 5.0)))):
            asked.append(Asked(at=at + after, verb=verb, copies=random.choice((1, 1, 2))))
    if random.random() < 0.2:
        asked.append(Asked(at=start + random.uniform(0.0, 2.0), verb="complete"))
    if random.random() < 0.12:
        asked.append(Asked(at=start + random.uniform(0.0, 5.0), verb="terminate", copies=random.choice((1, 2))))
    return asked


def _random_leg(random: Random, program: str) -> Leg:
    limit = random.choice((0.3, 0.8, 2.0)) if program == "hasty" or random.random() < 0.15 else None
    if program == "hasty":  # what is given up and done after all, at the service where the saga goes on
        return Leg(service="alpha", mood=random.choice(("slow", "slow", "fine", "unsure")), timeout=limit)
    return Leg(
        service="alpha" if random.random() < 0.6 else "beta",
        mood=random.choice(MOODS),
        outside=random.random() < 0.2,
        timeout=limit,
    )


def _fault(random: Random, kind: str, length: float) -> Fault:
    at = random.uniform(0.0, length + 2.0)
    process = random.choice(PROCESSES)
    match kind:
        case "kill" | "terminate":
            return Fault(at=at, kind=kind, target=process, amount=random.choice((0.5, 2.0, 8.0)))
        case "kill_at":
            return Fault(at=at, kind=kind, target=process, amount=float(random.randrange(1, 60)))
        case "stop":
            return Fault(at=at, kind=kind, target=process, amount=random.choice((1.0, 7.0, 14.0)))
        case "commit_really" | "commit_never":
            return Fault(at=at, kind=kind, target=process, amount=float(random.randrange(1, 8)))
        case "publish":
            return Fault(at=at, kind=kind, target=process, amount=random.random())
        case "database_down" | "bus_down":
            return Fault(at=at, kind=kind, amount=random.choice((0.2, 2.0, 7.0)))
        case "rebalance":
            return Fault(at=at, kind=kind, target=random.choice(("coordinator", "alpha", "beta")))
        case "lose" | "copy" | "delay":
            target = random.choice(("commands", "replies"))
            return Fault(at=at, kind=kind, target=target, amount=random.choice((0.1, 1.0, 5.0)))
        case "remake_topic":
            return Fault(at=at, kind=kind, target=random.choice(("requests", "replies", "commands")))
        case "prune":
            return Fault(
                at=0.0, kind=kind, target=random.choice(("alpha", "beta")), amount=random.choice((0.4, 2.0, 6.0))
            )
        case "restore":
            return Fault(at=at, kind=kind, amount=random.uniform(0.1, 4.0))
        case "replace_bus":
            return Fault(at=at, kind=kind)
        case "reuse":
            return Fault(at=at + 3.0, kind=kind, target="ORD-0")
        case "refuse":
            return Fault(at=at, kind=kind, target=f"ORD-{random.randrange(4)}", amount=random.choice((0.5, 4.0)))
        case "deploy":
            return Fault(at=at, kind=kind, amount=random.choice((0.5, 3.0, 8.0, 60.0)))
        case "skew":
            return Fault(at=0.0, kind=kind, target=process, amount=random.choice((-120.0, -1.0, 1.0, 30.0)))
        case _:
            return Fault(at=at, kind=kind, target=process)
