"""What stands on the command line after the verbs of `dead-letters`."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError


def list_arguments(place: ArgumentParser) -> None:
    _filter_arguments(place)
    place.add_argument("--limit", type=int, default=50, help="at most so many, the newest first (%(default)s)")


def show_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", type=int, metavar="ID")


def replay_arguments(place: ArgumentParser) -> None:
    _which_arguments(place)
    place.add_argument("--value", metavar="FILE|-", help="the record's value, repaired: a file, or standard input")
    place.add_argument("--key", metavar="TEXT", help="the record's key, repaired; it then decides the partition")
    place.add_argument(
        "--header", type=_header, action="append", default=[], metavar="NAME=VALUE", help="set; may be repeated"
    )


def drop_arguments(place: ArgumentParser) -> None:
    _which_arguments(place)
    place.add_argument("--reason", required=True, metavar="TEXT", help="why; printed with what is dropped (--json)")


def _which_arguments(place: ArgumentParser) -> None:
    place.add_argument("ids", type=int, nargs="*", metavar="ID")
    place.add_argument("--all", action="store_true", help="all that are there now and fit the filter, the oldest first")
    _filter_arguments(place)


def _filter_arguments(place: ArgumentParser) -> None:
    place.add_argument("--reason-code", metavar="CODE", help="only those of this reason, as `list` shows it")
    place.add_argument("--topic", help="only those that came on this topic")
    place.add_argument("--saga", metavar="ID", help="only those whose key is this saga id")


def parked_arguments(place: ArgumentParser) -> None:
    place.add_argument("--topic", help="only those whose first parked message is for this topic")
    place.add_argument(
        "--limit", type=int, default=50, help="at most so many sagas, the longest parked first (%(default)s)"
    )


def unpark_arguments(place: ArgumentParser) -> None:
    place.add_argument("sagas", nargs="*", metavar="SAGA", help="ids, as `parked` shows them")
    place.add_argument("--all", action="store_true", help="all that are parked")
    place.add_argument("--topic", help="only those whose first parked message is for this topic")
    place.add_argument("--reason", required=True, metavar="TEXT", help="goes into the saga's history")


def _header(text: str) -> tuple[str, bytes]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value.encode()
