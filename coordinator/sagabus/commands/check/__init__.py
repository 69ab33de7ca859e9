"""`check` and `diff`: finds what changed code would stop, before it is deployed. Changes nothing."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Final

from sagabus.commands.subcommand import Exit, Subcommand


async def run_check(options: Namespace) -> Exit:
    from sagabus.commands.check.checking import run_check

    return await run_check(options)


async def run_diff(options: Namespace) -> Exit:
    from sagabus.commands.check.checking import run_diff

    return await run_diff(options)


def _check_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="where the sagas are defined")
    files = "replay the recorded histories *.jsonl in this folder, or this file (`sagabus show ID --export FILE`)"
    place.add_argument("--histories", metavar="DIR", help=files)
    there = "replay a sample of the sagas in this database (SAGABUS_DATABASE, or that of `sagabus dev`, without a URL)"
    place.add_argument("--database", nargs="?", const="", metavar="URL", help=there)
    most = "of each version at most so many open sagas and as many closed ones (20)"
    place.add_argument("--sample", type=int, metavar="N", help=most)
    earlier = "compare the contracts with this file of an earlier state, or REF:FILE with that of a commit of git"
    place.add_argument("--contracts", metavar="FILE|REF:FILE", help=earlier)
    place.add_argument("--write-contracts", metavar="FILE", help="write the contracts of now, for a later comparison")
    place.add_argument("--no-lints", action="store_true", help="do not look at the code itself")
    place.add_argument("--json", action="store_true", help="one JSON object")


def _diff_arguments(place: ArgumentParser) -> None:
    place.add_argument("modules", nargs="+", metavar="MODULE[:OBJECT]", help="all that coordinators are to run")
    there = "the database of the sagas (SAGABUS_DATABASE, or that of `sagabus dev`)"
    place.add_argument("--database", metavar="URL", help=there)
    place.add_argument("--sample", type=int, metavar="N", help="of each version at most so many (all that are open)")
    place.add_argument("--json", action="store_true", help="one JSON object")


SUBCOMMANDS: Final = (
    Subcommand(
        name="check",
        about=(
            "Looks at the code of sagas for what would stop them: clocks, randomness, files and the like; replays "
            "recorded histories with it; compares contracts with an earlier state of them. Changes nothing. Exit code "
            "0: no errors. 6: errors were found. Made for CI."
        ),
        examples={
            "sagabus check shop.order_processing": "the code alone",
            "sagabus check shop.order_processing --histories tests/histories": "and with recorded histories",
            "sagabus check shop.order_processing --database postgresql://…/shop --sample 50":
                "and with sagas of a database, which is only read",
            "sagabus check shop.order_processing shop.contracts --write-contracts contracts.json":
                "keep the contracts of now beside the code",
            "sagabus check shop.order_processing shop.contracts --contracts main:contracts.json":
                "compare them with those of another branch",
        },
        arguments=_check_arguments,
        run=run_check,
    ),
    Subcommand(
        name="diff",
        about=(
            "Says which open sagas a deployment of this code would stop, before it is made: replays each one. Reads "
            "the database, and changes nothing. Exit code 0: none would stop. 6: some would."
        ),
        examples={
            "sagabus diff shop.order_processing": "all open sagas of SAGABUS_DATABASE",
            "sagabus diff shop.order_processing --sample 100 --json": "of each version a hundred, as JSON",
        },
        arguments=_diff_arguments,
        run=run_diff,
    ),
)  # fmt: skip
