"""Operators who ask for what is mostly of no use, of sagas in any condition: each must hear what became of it (U8).

Two cancel at once, one retries whatever there is, one acknowledges what nobody was told. Copies have one id.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any, Final

from sagabus.contracts.envelope import Message
from sagabus.contracts.requests import raw_message
from tests.simulation.plan import Order

SHARE: Final = 0.4
"""Of the sagas of which anything is asked."""


def asked_of(order: Order, *, seed: int, namespace: str, time: int) -> Iterator[tuple[float, Message]]:
    """When each is sent, in seconds."""
    random = Random(f"askers {seed} {order.id}")
    if random.random() > SHARE:
        return
    for number in range(random.choice((1, 2, 4))):
        body = _body(random)
        message = raw_message(
            {**body, "reason": "somebody wants it", "actor": "ann"}, saga_id=order.id, namespace=namespace,
            message_id=f"{body['type']}-{order.id}-{number}", source=b"/operator", time=time,
        )  # fmt: skip
        at = max(0.0, order.at + random.uniform(-0.3, 6.0))
        for copy in range(random.choice((1, 1, 2))):
            yield at + copy * 0.8, message


def _body(random: Random) -> dict[str, Any]:
    verb = random.choice(("cancel", "retry", "retry", "acknowledge"))
    if verb == "cancel":
        return {"type": verb}
    return {"type": verb, "step": random.randrange(1, 4) if verb == "retry" else 99}
