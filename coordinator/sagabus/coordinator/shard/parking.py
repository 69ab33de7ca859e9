"""What a saga hears when its messages are parked because they can never be published, and when they are released (S8).

It goes on taking its inputs; what it sends waits, in order. A person sees why, until the cause is cured.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sagabus.contracts.names import SagaId
from sagabus.coordinator.core.saga.concern import RELEASED, ConcernKind
from sagabus.coordinator.core.saga.history import Input, Kind
from sagabus.messaging.publishing.relay import Parking


def notices(parked: Iterable[Parking], released: Mapping[str, str]) -> Iterator[Input]:
    """Inputs for these sagas; some of the ids may be no saga's. released: and the person's word.

    Who is parked behind others has been told already.
    """
    for saga_id, word in released.items():
        yield _notice(saga_id, RELEASED, word)
    for one in parked:
        if not one.behind:
            yield _notice(one.saga_id, ConcernKind.PARKED, f"what it sends is parked: {one.reason}")


def _notice(saga_id: str, name: str, words: str) -> Input:
    return Input(SagaId(saga_id), None, Kind.NOTICE, name=name, payload=words.encode())
