"""What stands on the command line after `start`, `list`, `show`, `event` and the verbs."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from typing import Final

DEFAULT_WAIT_SECONDS: Final = 60.0
"""That --wait waits, unless told otherwise."""

DEFAULT_ANSWER_SECONDS: Final = 5.0
"""That a verb waits for its answer, unless told otherwise."""

STATUSES: Final = ("running", "compensating", "completed", "compensated", "cancelled", "terminated", "continued")


def start_arguments(place: ArgumentParser) -> None:
    place.add_argument("saga", metavar="NAME", help="the saga's name")
    place.add_argument(
        "--id", required=True, help="of the new saga; asked again with an equal input, it is the same saga"
    )
    place.add_argument(
        "--input", required=True, metavar="FILE|-|JSON", help="its input: a file, standard input, or JSON"
    )
    place.add_argument(
        "--allow-unknown", action="store_true", help="also if no coordinator runs a saga of this name yet: it waits"
    )
    wait_arguments(place)
    json_argument(place)


def list_arguments(place: ArgumentParser) -> None:
    place.add_argument("--status", action="append", choices=STATUSES, help="only these; may be repeated")
    place.add_argument("--saga", metavar="NAME", help="only those of this name")
    place.add_argument("--attention", action="store_true", help="only those that need operator action")
    place.add_argument("--concern", metavar="KIND", help="only those that need it for this reason: undo, parked, …")
    place.add_argument("--paused", action="store_true", help="only those that an operator has paused")
    place.add_argument("--error", metavar="CODE", help="only those that ended, or are being undone, with this error")
    place.add_argument(
        "--where", metavar="NAME=VALUE", action="append",
        help="only those with this attribute, as in stage=waiting; with several, those that have all of them",
    )  # fmt: skip
    place.add_argument(
        "--service", metavar="NAME", help="only open ones that wait for this service, or may wait for it"
    )
    place.add_argument("--id-prefix", metavar="TEXT", help="only those whose id begins so, sorted by id")
    before = "only those that {} before this: an age, 90s 30m 2h 7d, or a time, 2026-01-31T12:00:00Z"
    place.add_argument("--started-before", metavar="AGE|TIME", help=before.format("were started"))
    place.add_argument("--updated-before", metavar="AGE|TIME", help=before.format("had their last row of history"))
    place.add_argument("--limit", type=int, default=50, help="at most so many, the latest first (%(default)s)")
    place.add_argument("--cursor", metavar="TEXT", help="go on after an earlier list: the cursor that it printed")
    json_argument(place)


def show_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    place.add_argument("--history", action="store_true", help="with every row of its history")
    place.add_argument(
        "--export", nargs="?", const="-", metavar="FILE",
        help="write its whole history as JSON lines for `sagabus check` and tests, to standard output without a FILE",
    )  # fmt: skip
    json_argument(place)


def event_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    place.add_argument("name", metavar="NAME", help="the event's whole name, as its contract says it, or its last part")
    place.add_argument("--exact", action="store_true", help="send it by this very name, whatever the sagas' code names")
    place.add_argument(
        "--data", default="null", metavar="FILE|-|JSON", help="a file, standard input, or JSON (%(default)s)"
    )
    place.add_argument("--event-id", metavar="TEXT", help="sent twice with the same one, the event counts once")
    json_argument(place)


def cancel_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    _why_and_who(place, why="cancelled on request")
    _wait_for_end(place, "--until-closed")


def saga_verb_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    _why_and_who(place)


def step_verb_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    place.add_argument("--step", type=int, required=True, metavar="NUMBER", help="as `sagabus show` numbers them")
    _why_and_who(place)


def complete_arguments(place: ArgumentParser) -> None:
    step_verb_arguments(place)
    place.add_argument(
        "--output", default="null", metavar="FILE|-|JSON",
        help="of the step, as its participant would have sent it: a file, standard input, or JSON (%(default)s)",
    )  # fmt: skip


def acknowledge_arguments(place: ArgumentParser) -> None:
    place.add_argument("id", metavar="ID")
    place.add_argument("--step", type=int, metavar="NUMBER", help="only what is about this step (all)")
    _why_and_who(place)


def _why_and_who(place: ArgumentParser, *, why: str | None = None) -> None:
    """why: the reason if none is given; None: one must be given."""
    what = "goes into the saga's history" + (f" ({why})" if why else "")
    place.add_argument("--reason", required=why is None, default=why, metavar="TEXT", help=what)
    place.add_argument("--actor", metavar="NAME", help="who asks, for the history (you)")
    place.add_argument(
        "--wait", type=_seconds, default=DEFAULT_ANSWER_SECONDS, metavar="SECONDS",
        help="wait for the answer at most so long (%(default)g); 0: only send it",
    )  # fmt: skip
    json_argument(place)


def wait_arguments(place: ArgumentParser) -> None:
    _wait_for_end(place, "--wait")


def _wait_for_end(place: ArgumentParser, option: str) -> None:
    place.add_argument(option, action="store_true", help="wait for the saga's end")
    place.add_argument(
        "--timeout", type=_seconds, default=DEFAULT_WAIT_SECONDS, metavar="SECONDS", help=f"of {option} (%(default)g)"
    )


def _seconds(text: str) -> float:
    """Not NaN, and not negative; `inf` waits without end."""
    seconds = float(text)
    if not seconds >= 0:
        raise ArgumentTypeError(f"{text!r}: give seconds, 0 or more")
    return seconds


def json_argument(place: ArgumentParser, *, what: str = "one JSON value instead of text") -> None:
    place.add_argument("--json", action="store_true", help=what)
