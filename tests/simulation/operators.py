"""What operators do in a run: they pause and resume sagas, terminate some, complete steps that they know of.

An operator looks into the ledger of a service before saying that a step has completed, and names the run. Who pauses a
saga resumes it; in the calm at the end somebody looks for those that are paused still.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sagabus.contracts.requests import raw_message
from tests.simulation.plan import Asked, Order
from tests.simulation.workload import Effect

if TYPE_CHECKING:
    from tests.simulation.world import World

LOOK_EVERY: Final = 0.1
"""Seconds between two looks into the ledgers."""

LOOKS: Final = 40

_SAID: Final = frozenset(("step.completed", "settle.completed", "settle.never"))


@dataclass
class Operators:
    """Of one run."""

    world: World
    _asked: int = 0

    def announce(self, order: Order) -> None:
        for asked in order.asked:
            self.world.later(max(0.0, asked.at), lambda asked=asked: self._ask(order.id, asked))  # type: ignore[misc]

    def resume_all(self) -> None:
        """Whoever has forgotten one is reminded, for as long as messages may still be under way."""
        for seconds in range(0, 60, 3):
            self.world.later(seconds, self._resume_paused)

    def _ask(self, id: str, asked: Asked) -> None:
        if asked.verb == "complete":
            self._complete(id, LOOKS)
            return
        ref = self._send(id, {"type": asked.verb})
        for _ in range(asked.copies - 1):
            self.world.later(0.9, lambda: self._send(id, {"type": asked.verb}, ref))

    def _complete(self, id: str, looks: int) -> None:
        """The first step whose effect is in the ledger, and of which its saga has not heard."""
        found = next(self._unheard(id), None)
        if found is not None:
            run, number, effect = found
            self._send(id, {"type": "complete", "run": run, "step": number, "output": {"stamp": effect.step}})
        elif looks:
            self.world.later(LOOK_EVERY, lambda: self._complete(id, looks - 1))

    def _unheard(self, id: str) -> Iterator[tuple[str, int, Effect]]:
        rows = self.world.history(id)
        for effect in self.world.ledger():
            if effect.undo or effect.saga != id:
                continue
            run, _, number = effect.step.removeprefix(f"{id}:").rpartition(":")
            mine = [row for row in rows if row["run"] == run and row["step"] == int(number)]
            is_told = any(row["kind"] in _SAID or row["name"] == "complete" for row in mine)
            if not is_told and any(row["kind"] == "command" for row in mine):
                yield run, int(number), effect

    def _resume_paused(self) -> None:
        for row in self.world.sagas():
            if row["paused"]:
                self._send(row["id"], {"type": "resume"})

    def _send(self, id: str, body: dict[str, Any], ref: str = "") -> str:
        self._asked += 1
        ref = ref or f"asked-{self._asked}"
        self.world.send(raw_message(
            {"reason": "an operator knows why", **body}, saga_id=id, namespace="sagabus", message_id=ref,
            source=b"/operator", time=round(self.world.wall() * 1_000_000),
        ))  # fmt: skip
        return ref
