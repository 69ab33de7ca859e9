"""What the test has said of one activity: how its next commands are answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from sagabus.contracts import Activity
from sagabus.testing.replies import Outcome, completed, completes_by_itself

Behaviour = Callable[[BaseModel], Outcome]
"""From the input to what is stored and sent."""


@dataclass(slots=True)
class Loss:
    """A copy of a command that nobody answers. done: it is carried out, and its reply is lost."""

    done: bool


@dataclass(slots=True)
class Script:
    """first: what comes before `always`, each once. losses: of the next copies. lost: of all others."""

    activity: Activity[..., Any, Any]
    first: deque[Behaviour] = field(default_factory=deque)
    always: Behaviour | None = None
    losses: deque[Loss] = field(default_factory=deque)
    lost: Loss | None = None
    delay: int = 0
    """Microseconds until a reply is there."""
    copies: int = 1
    """Of each reply."""

    def next_loss(self) -> Loss | None:
        return self.losses.popleft() if self.losses else self.lost

    def next(self) -> Behaviour | None:
        """None where the test has said nothing that fits."""
        if self.first:
            return self.first.popleft()
        if self.always is None and completes_by_itself(self.activity):
            return lambda _: completed(self.activity, None)
        return self.always
