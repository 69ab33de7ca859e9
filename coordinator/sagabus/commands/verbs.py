"""An operator's verbs: asked over the HTTP API, and told what became of them.

Exit codes: 0 applied, 5 refused, 4 no such saga, 124 not decided upon within the wait. With `--wait 0` nobody waits,
and 0 says that the request was sent.
"""

from __future__ import annotations

import getpass
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sagabus.client.coordinator_api import CoordinatorApi, Json, NoSuchSaga, VerbRefused
from sagabus.commands import saga_arguments, verb_sheets
from sagabus.commands.printable import printable
from sagabus.commands.sagas import all_pages, given, no_such_saga, opened_api, tell, wait_for_end
from sagabus.commands.subcommand import Exit, Subcommand, complain, say_json

FIELDS: Final = ("step", "output")
"""What verbs may take beside a reason and an actor; each verb has its own."""


@dataclass(frozen=True, slots=True)
class Verb:
    """examples: command lines without `sagabus`, and what they do. done: of its answer, in words."""

    name: str
    about: str
    examples: dict[str, str]
    arguments: Callable[[ArgumentParser], None]
    done: Callable[[Json], str]


VERBS: Final = (
    Verb(
        "cancel",
        "Cancels a saga: all that it has done is undone. Its code may tidy up first, in its `finally` blocks. A saga "
        "that has ended, or is being undone, refuses.",
        {
            "cancel ORD-1 --reason 'the customer called'": "undo it",
            "cancel ORD-1 --reason 'the customer called' --until-closed": "and wait until all is undone",
        },
        saga_arguments.cancel_arguments,
        verb_sheets.cancelled,
    ),
    Verb(
        "retry",
        "Makes the next attempt of a step now, or of its settle or undo: if it waits between two attempts, or if its "
        "participant cannot answer it.",
        {"retry ORD-1 --step 2 --reason 'the bank is back'": "instead of waiting for its pause"},
        saga_arguments.step_verb_arguments,
        verb_sheets.retried,
    ),
    Verb(
        "skip",
        "Counts the undo of a step as done, because a person has done it by hand, or is responsible for it. The saga "
        "goes on with the next undo. While a participant is asked whether a step has happened, the question can be "
        "skipped: the step then counts as never having happened. Nothing else can be skipped.",
        {"skip ORD-1 --step 2 --reason 'refunded by hand, see case 17'": "an undo that cannot succeed"},
        saga_arguments.step_verb_arguments,
        verb_sheets.skipped,
    ),
    Verb(
        "complete",
        "Gives the output of a step whose outcome a person knows. The saga goes on as if its participant had sent it.",
        {
            """complete ORD-1 --step 2 --output '{"transaction_id": "T-7"}' """
            """--reason 'paid, as the bank says'""": "a step whose participant cannot answer",
        },
        saga_arguments.complete_arguments,
        verb_sheets.completed,
    ),
    Verb(
        "acknowledge",
        "Removes the attention flag of a saga, open or closed: a person has seen why it was flagged, and has done what "
        "was to be done. It changes nothing else. If the same happens again, the saga is flagged again.",
        {
            "acknowledge ORD-1 --reason 'refunded by hand, see case 17'": "all that it is flagged for",
            "acknowledge ORD-1 --step 2 --reason 'known, see case 18'": "what is about step 2",
        },
        saga_arguments.acknowledge_arguments,
        verb_sheets.acknowledged,
    ),
    Verb(
        "pause",
        "Pauses a saga: it sends nothing new until it is resumed. What comes for it is kept. An undo that has begun "
        "goes on.",
        {"pause ORD-1 --reason 'the warehouse moves'": "until `sagabus resume`"},
        saga_arguments.saga_verb_arguments,
        verb_sheets.paused,
    ),
    Verb(
        "resume",
        "Lets a paused saga go on.",
        {"resume ORD-1 --reason 'the warehouse has moved'": "after `sagabus pause`"},
        saga_arguments.saga_verb_arguments,
        verb_sheets.resumed,
    ),
    Verb(
        "terminate",
        "Ends a saga as it is: nothing is undone, nothing more is sent. The answer lists what an operator undoes by "
        "hand.",
        {"terminate ORD-1 --reason 'undone by hand, see case 19'": "when not even `sagabus cancel` can end it"},
        saga_arguments.saga_verb_arguments,
        verb_sheets.terminated,
    ),
)


async def _run(verb: Verb, options: Namespace) -> Exit:
    body = {"reason": options.reason, "actor": options.actor or _user()}
    body |= {field: getattr(options, field) for field in FIELDS if getattr(options, field, None) is not None}
    if "output" in body:
        body["output"] = given(body["output"])
    async with opened_api() as api:
        try:
            answer = await api.verb(verb.name, options.id, wait=options.wait, body=body)
            return await _answered(api, verb, options, answer)
        except NoSuchSaga as error:
            raise no_such_saga(options.id, error) from error
        except VerbRefused as refused:
            return tell_refused(verb.name, options, refused)


async def _answered(api: CoordinatorApi, verb: Verb, options: Namespace, answer: Json) -> Exit:
    if getattr(options, "until_closed", False):
        return await wait_for_end(api, options, None, answer)
    if answer["outcome"] == "applied":
        saga = answer["saga"] or {"id": options.id, "run": answer["run"]}
        if saga.get("status") == "terminated":
            saga = await api.saga(options.id)  # what it leaves behind stands in its error
        steps = await all_pages(api.steps, saga, "steps") if not options.json else []
        tell(
            options, answer, verb.done({**answer, "saga": saga, "steps": steps, "step": getattr(options, "step", None)})
        )
        return Exit.DONE
    tell(options, answer, verb_sheets.undecided(answer, wait=options.wait))
    return Exit.WAITED if options.wait > 0 else Exit.DONE


def tell_refused(request: str, options: Namespace, refused: VerbRefused) -> Exit:
    if options.json:
        error = {"code": refused.code, "message": str(refused)}
        say_json({"id": options.id, "request": request, "outcome": "refused", "error": error})
    else:
        complain(printable(f"{refused} ({refused.code})"))
    return Exit.REFUSED


def _user() -> str:
    """Whose process this is. In a container it may have a number and no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _subcommand(verb: Verb) -> Subcommand:
    async def run(options: Namespace) -> Exit:
        return await _run(verb, options)

    return Subcommand(
        name=verb.name,
        about=f"{verb.about} Waits for the answer. Exit code 0: applied. 5: refused. 124: not decided yet.",
        examples={f"sagabus {line}": what for line, what in verb.examples.items()},
        arguments=verb.arguments,
        run=run,
    )


SUBCOMMANDS: Final = tuple(_subcommand(verb) for verb in VERBS)
