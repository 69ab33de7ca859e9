"""`event`: sends an event to one saga, and tells what the saga makes of it."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from sagabus.client.coordinator_api import VerbRefused
from sagabus.commands import saga_arguments
from sagabus.commands.sagas import given, opened_api, tell
from sagabus.commands.subcommand import Exit, Subcommand
from sagabus.commands.verbs import tell_refused

_OF_AN_OLDER_COORDINATOR: Final = "it is kept until the saga's code waits for it"


async def run_event(options: Namespace) -> Exit:
    data = given(options.data)
    async with opened_api() as api:
        try:
            accepted = await api.event(
                options.id, name=options.name, data=data, event_id=options.event_id, near=not options.exact
            )
        except VerbRefused as refused:
            return tell_refused("event", options, refused)
    words = accepted.get("words", _OF_AN_OLDER_COORDINATOR)
    tell(options, accepted, f"{options.id}: event {accepted.get('name', options.name)} accepted; {words}")
    return Exit.DONE


SUBCOMMANDS: Final = (
    Subcommand(
        name="event",
        about=(
            "Sends an event to a saga. The saga need not wait for it yet, nor be started: an early event is kept, and "
            "the answer says so. A saga that has ended refuses. NAME is the event's whole name, as its contract says: "
            "an event of a service has the service's name before it, library.reader_came; one that is declared by "
            "event('reader_came', …) has none. Its last part will do where that can mean one event alone. Exit code "
            "0: accepted. 5: refused."
        ),
        examples={
            """sagabus event EXP-1 approvals.decided --data '{"approved": true, "by": "ann"}'""":
                "a decision, by the event's whole name",
            """sagabus event EXP-1 decided --data '{"approved": true, "by": "ann"}'""":
                "the same, where no other event ends so",
        },
        arguments=saga_arguments.event_arguments,
        run=run_event,
    ),
)  # fmt: skip
