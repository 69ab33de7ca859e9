"""Whether a model reads what it writes: looked at when a contract is declared, and again only where values decide.

A model that loses what it is given (`SecretStr`, `Field(exclude=True)`, an alias that is written and not read) would
lose it in every saga. It is refused when it is declared: `check`. What the schema cannot tell is a doubt, and whoever
writes such a model reads the bytes back before they count: `doubts_of`.

How it is found out. `inspection` walks the model's core schema, node by node: a node is exact, is refused, or leaves a
doubt. `samples` then makes a few values for each field and sends them through pydantic as the wire would; one that does
not come back is refused with the value at hand. A value that no sample stands for, and that the schema leaves in doubt,
is found when it is written (`codec.encode`).
"""

from sagabus.contracts.round_trip.check import check, check_at_last, doubts_of
from sagabus.contracts.round_trip.exact import exactness_of
from sagabus.contracts.round_trip.findings import Doubts
from sagabus.contracts.round_trip.rules import rules_of
from sagabus.contracts.round_trip.same import difference

__all__ = [
    "Doubts",
    "check",
    "check_at_last",
    "difference",
    "doubts_of",
    "exactness_of",
    "rules_of",
]
