"""What becomes of a record: one word for each reason, alike in counts, dead letters and whatever publishes them.

Every record that a shard takes in is counted once, under one word, when its transaction is committed:

    sent = applied + duplicate + ignored + dead letters + forwarded + kept

A record that is kept (an event or cancel before its saga's start, or anything while its saga is being replayed) is
counted again, apart, under what became of it in the end. This table is the one place where the words stand; it never
decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Fate(StrEnum):
    """APPLIED: it counts. DUPLICATE: it has counted already. IGNORED: it came too late, or must not take effect.

    DEAD_LETTER: it stands in `dead_letter`, with the word as its reason. FORWARDED: sent on to its own partition. KEPT:
    it waits until its saga can take it in.
    """

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    IGNORED = "ignored"
    DEAD_LETTER = "dead_letter"
    FORWARDED = "forwarded"
    KEPT = "kept"


_COORDINATOR: Final = {
    Fate.APPLIED: {
        "applied": "it is in its saga's history",
        "routed": "a record of an outside topic: a request follows from it, in the same transaction",
    },
    Fate.DUPLICATE: {
        "duplicate": "its saga has it already",
        "start.same": "the saga was started before, with an equal input",
    },
    Fate.IGNORED: {
        "late": "the saga has given the step up, or its outcome is decided",
        "old_attempt": "an attempt failed that is not the current one",
        "cancel.rejected": "the saga had ended, or was being undone; told by `sagabus.cancel.rejected`",
        "route.none": "a record of an outside topic that is no event of a route's, or is for no saga",
        "request.refused": "a verb that changes nothing; its saga's history and `sagabus.request.refused` say why",
    },
    Fate.FORWARDED: {"forwarded": "it was in another shard's partition"},
    Fate.KEPT: {
        "early.kept": "nobody has started its saga yet",
        "saga.replayed": "its saga's history is being replayed; taken in when that is done",
    },
    Fate.DEAD_LETTER: {
        "early.expired": "nobody has started its saga within an hour",
        "early.too_many": "a hundred requests wait for its saga's start already",
        "forwarded.twice": "it was forwarded once, and is still in another shard's partition",
        "reply.causation": "a reply whose ce_causationid is not the id of a command",
        "reply.foreign": "a reply on the topic of another service than the step's",
        "reply.kind": "a reply of a kind that does not answer this command",
        "reply.no_saga": "a reply to a saga or run that is not known here",
        "reply.purged": "a reply to a saga that ended so long ago that retention has removed it",
        "reply.unreadable": "an output, or a refusal, that cannot be read; its saga is flagged, and asks again",
        "reply.type": "a reply with an unknown ce_type",
        "request.incomplete": "a start without a saga's name, an event without its own, or an operator's request "
        "without what its verb needs",
        "request.name": "a name with a NUL, or of more than 300 characters",
        "request.no_saga": "an operator's request for a saga, or a run of it, that is not known here",
        "request.run": "a verb whose run is no text, or of more than 300 characters",
        "request.type": "an unknown type, or a ce_type that says another one",
        "request.unsupported": "a verb that this version does not carry out",
        "route.saga_id": "the `saga_id` of a route raised, or gave no text",
        "route.start": "the `start` of a route raised, or gave something else than the saga's input",
        "route.type_missing": "a record without ce_type on an outside topic of which routes name several events",
        "saga.closed": "an event to a saga that has ended; an operator's request to one that retention has removed",
        "saga_id.differs": "key and body name different sagas",
        "saga_id.missing": "neither key nor body names a saga",
        "start.expired": "an unknown start, older than what is remembered of starts (H2): it may be a copy",
        "start.other_input": "the id belongs to a saga with another input; told by `sagabus.start.rejected`",
    },
}

_PARTICIPANT: Final = {
    Fate.APPLIED: {
        "completed": "carried out",
        "refused": "the handler, or the check of its input, has refused it",
        "failed": "the handler failed this attempt",
        "started": "an external handler is running it",
        "buried": "a settle made sure that its step never happens",
    },
    Fate.DUPLICATE: {
        "answered": "a copy, answered from the inbox",
        "awaited": "a copy of what an external handler is running, or the settle of it",
    },
    Fate.IGNORED: {
        "settled": "a copy that came after its settle; refused",
        "id_reused": "the same id with another activity or input (P6); answered as failed",
        "inbox_expired": "older than what the inbox remembers (P5); answered as failed",
        "no_handler": "nobody here handles it; answered as failed",
    },
    Fate.DEAD_LETTER: {
        "command.reply_topic": "a command that is to be answered elsewhere than on a topic for this service's replies",
    },
}

_BOTH: Final = {
    Fate.DEAD_LETTER: {
        "batch.too_large": "a compressed batch that is larger than 32 MiB once unpacked: none of its records was read",
        "headers.invalid": "a header that is no number, time or name, or holds a NUL",
        "headers.missing": "a header that must be there",
        "headers.not_utf8": "a header that is not UTF-8",
        "headers.repeated": "a header that is read stands more than once, with different values",
        "headers.too_long": "a header of more than 300 characters; or 64 KiB of headers in the wrong partition",
        "payload.invalid": "a value that its model does not read",
        "payload.not_json": "a value that is not JSON, or holds NaN, an infinity or a number that no double holds",
        "payload.too_deep": "nested deeper than 100 levels",
        "payload.too_large": "more than 900 KiB",
        "saga_id.invalid": "a saga id of other characters than A-Z a-z 0-9 . _ ~ @ : - or of more than 200",
    },
}

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {word: text for table in (_COORDINATOR, _PARTICIPANT, _BOTH) for words in table.values()
     for word, text in words.items()}
)  # fmt: skip
"""Every word, and what it says."""

FATES: Final[Mapping[str, Fate]] = MappingProxyType(
    {word: fate for table in (_COORDINATOR, _PARTICIPANT, _BOTH) for fate, words in table.items() for word in words}
)
"""Every word, and what became of the record."""
