"""What usually helps against each reason of a dead letter. A test holds this to the reasons that there are."""

from __future__ import annotations

from typing import Final

from sagabus.contracts.reasons import MEANINGS

REPAIR: Final = "replay it repaired (--value FILE), or drop it and have its sender send a right one"
HEADER: Final = (
    "replay it with --header NAME=VALUE; a reply may as well be dropped, its command is sent again by itself"
)
ROUTE: Final = (
    "correct the function that its message names, deploy it, and replay it: other readers of its topic get it too"
)
MEND: Final = "correct the participant, and drop it: its command is sent again by itself"

CURES: Final = {
    "batch.too_large": "find out who sent it, and have its records sent in smaller batches; then drop it",
    "command.reply_topic": "find out who writes to that topic, and take that right away; then drop it",
    "early.expired": "start the saga, then replay it; or drop it",
    "early.too_many": "start the saga, then replay it",
    "forwarded.twice": "see that coordinators and topics all have the same number of partitions; then replay it",
    "headers.invalid": HEADER,
    "headers.missing": f"see whether its saga is there (`sagabus show ID`, the id is the key); if it is, {HEADER}",
    "headers.not_utf8": HEADER,
    "headers.repeated": HEADER,
    "headers.too_long": HEADER,
    "payload.invalid": REPAIR,
    "payload.not_json": REPAIR,
    "payload.too_deep": REPAIR,
    "payload.too_large": "have its sender store the data, and send where it is; then drop it",
    "reply.causation": MEND,
    "reply.foreign": "find out who writes to that topic, and take that right away; then drop it",
    "reply.kind": MEND,
    "reply.no_saga": (
        "drop it; if the database was restored from an older backup, see whether its effect is to be undone by hand"
    ),
    "reply.purged": "drop it; if it tells of an effect that nobody undid, undo it by hand",
    "reply.type": MEND,
    "reply.unreadable": MEND,
    "request.incomplete": REPAIR,
    "request.name": REPAIR,
    "request.no_saga": "look at the id; then drop it",
    "request.run": REPAIR,
    "request.type": REPAIR,
    "request.unsupported": "replay it if it is still wanted, or drop it",
    "route.saga_id": ROUTE,
    "route.start": ROUTE,
    "route.type_missing": "replay it with --header ce_type=EVENT, or drop it and have its sender set that header",
    "saga.closed": (
        "was an event meant for another saga? replay it with --key ID, the id of that one; else drop it: nothing "
        "reaches a saga that has ended"
    ),
    "saga_id.differs": "replay it with the right --key, or a --value that agrees with it",
    "saga_id.invalid": "replay it with the right --key, or drop it",
    "saga_id.missing": "replay it with --key SAGA",
    "start.expired": "look whether the saga ran; if not, send the start again",
    "start.other_input": "start it under another id; then drop this one",
}
"""By reason."""

UNKNOWN: Final = "another version of sagabus, or a service, gave this reason; its message says more"


def meaning_of(reason: str) -> str:
    return MEANINGS.get(reason, UNKNOWN)


def cure_of(reason: str) -> str:
    return CURES.get(reason, REPAIR)
