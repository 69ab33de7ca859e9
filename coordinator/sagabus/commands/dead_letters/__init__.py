"""`dead-letters`: what could not be understood, and what could not be published; looked at, cured, sent again.

It works on the tables of the coordinator, or of one service, and needs no coordinator to run. `letters` and `parked`
do the work of the verbs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Final, NamedTuple

from sagabus.commands.dead_letters import arguments
from sagabus.commands.subcommand import Exit, Subcommand


class Verb(NamedTuple):
    """Of `dead-letters`. about: the line in the list. examples: whole command lines and what they do."""

    about: str
    arguments: Callable[[ArgumentParser], None]
    examples: dict[str, str]


VERBS: Final = {
    "list": Verb(
        "list dead letters, the newest first, with a total for each reason",
        arguments.list_arguments,
        {
            "sagabus dead-letters list": "those of the coordinator",
            "sagabus dead-letters list --service inventory --reason-code payload.invalid": "of a service, one reason",
        },
    ),
    "show": Verb(
        "show one dead letter, what its reason means, and the usual cure",
        arguments.show_arguments,
        {"sagabus dead-letters show 17": "for people", "sagabus dead-letters show 17 --json": "all bytes, in base64"},
    ),
    "replay": Verb(
        "publish dead letters to the topics they came from, repaired if need be, and delete their rows",
        arguments.replay_arguments,
        {
            "sagabus dead-letters replay 17 18": "as they came",
            "sagabus dead-letters replay 17 --value repaired.json": "with another value",
            "sagabus dead-letters replay --all --reason-code reply.no_saga": "all of one reason, the oldest first",
        },
    ),
    "drop": Verb(
        "delete dead letters, and print what is deleted",
        arguments.drop_arguments,
        {"sagabus dead-letters drop 17 --reason 'a test of ours' --json": "and print all of it, to be kept"},
    ),
    "parked": Verb(
        "list the sagas whose messages wait because Kafka will never take one of them",
        arguments.parked_arguments,
        {
            "sagabus dead-letters parked": "of the coordinator",
            "sagabus dead-letters parked --service payment": "of a service",
        },
    ),
    "unpark": Verb(
        "once the cause is cured: have a saga's parked messages published, in their order",
        arguments.unpark_arguments,
        {
            "sagabus dead-letters unpark ORD-1 --reason 'the topic is back'": "one saga",
            "sagabus dead-letters unpark --all --topic payment.commands --reason 'made again'": "all of this topic",
        },
    ),
}


async def run(options: Namespace) -> Exit:
    from sagabus.commands.dead_letters.work import WORK

    return await WORK[options.verb](options)


def _arguments(place: ArgumentParser) -> None:
    verbs = place.add_subparsers(title="verbs", metavar="VERB", required=True, dest="verb")
    for name, verb in VERBS.items():
        one = verbs.add_parser(
            name,
            help=verb.about,
            description=f"{verb.about[0].upper()}{verb.about[1:]}.",
            epilog="\n".join(["examples:", *(f"  {line}\n      {what}" for line, what in verb.examples.items())]),
        )
        one.add_argument("--service", metavar="NAME", help="of this service, in its schema; else the coordinator's own")
        one.add_argument("--json", action="store_true", help="one JSON value instead of text")
        verb.arguments(one)


SUBCOMMANDS: Final = (
    Subcommand(
        name="dead-letters",
        about=(
            "Invalid messages are kept as dead letters until an operator handles them: look at them, repair them, send "
            "them again, or drop them. Messages that Kafka refuses are parked, with all later ones of their saga: cure "
            "the cause, and unpark them. Works on the tables in SAGABUS_DATABASE; a service's may be in another "
            "database than the coordinator's."
        ),
        examples={line: what for verb in VERBS.values() for line, what in verb.examples.items()},
        arguments=_arguments,
        run=run,
    ),
)
