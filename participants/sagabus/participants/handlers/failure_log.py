"""What the log says of a handler that did not give its output: all of it the first time, one line for a repetition."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Hashable
from typing import Any, Final

from sagabus.contracts.activity import Activity
from sagabus.contracts.commands import CommandHead
from sagabus.contracts.names import fitting_code
from sagabus.contracts.replies import ReplyKind
from sagabus.contracts.words import words_of
from sagabus.participants.handlers.declaration import Handler
from sagabus.participants.handlers.outcome import HandlerOutcome, OutputUnusable, named
from sagabus.participants.handlers.refusal import Refused
from sagabus.participants.handlers.time_limit import HandlerTimedOut

MOST_REMEMBERED: Final = 1_000
"""Failures that have been told; the oldest is forgotten, and told anew."""

logger = logging.getLogger(__name__)


class FailureLog:
    """Of one process."""

    def __init__(self) -> None:
        self._told: dict[Hashable, None] = {}

    def tell(self, handler: Handler | None, head: CommandHead, outcome: HandlerOutcome) -> None:
        """handler: of this activity. After the commit; an outcome without an error is none of ours."""
        error = outcome.error
        if error is None:
            return
        extra = {"saga_id": head.saga_id, "step": head.step, "attempt": head.attempt}
        which = f"{head.activity} of saga {head.saga_id}, attempt {head.attempt}"
        if outcome.expected:
            logger.info("%s: %s", which, words_of(error), extra=extra)
            if handler is not None and isinstance(error, Refused) and outcome.kind is ReplyKind.REFUSED:
                self._tell_undeclared(handler.activity, fitting_code(words_of(error.code)))
        elif isinstance(error, HandlerTimedOut):
            at = "" if handler is None else f": {handler.written_at}"
            logger.error("%s, step %d: %s%s", which, head.step, error, at, exc_info=error.__cause__, extra=extra)
        elif self._is_repeated(head, error):
            logger.error("%s failed as before: %s", which, named(error), extra=extra)
        elif isinstance(error, OutputUnusable):  # a traceback would show our own code alone
            at = "" if handler is None else f": {handler.written_at}"
            same = "A retry fails alike until the handler's code is changed"
            logger.error("%s failed: %s. %s%s", which, error, same, at, extra=extra)
        else:
            logger.error("%s failed", which, exc_info=error, extra=extra)

    def _tell_undeclared(self, activity: Activity[..., Any, Any], code: str) -> None:
        """Once for each code. An activity that declares none may refuse with any. code: as it was sent."""
        declared = activity.refusals
        if not declared or code in declared or not self._is_new((activity.name, code)):
            return
        logger.warning(
            "%s was refused with the code %s, which its contract does not declare: %s. A saga that looks for one of "
            "those does not find it. Correct the code, or add it to refusals=",
            activity.name, code, ", ".join(declared),
        )  # fmt: skip

    def _is_repeated(self, head: CommandHead, error: BaseException) -> bool:
        """An unusable output, of a handler. Any other error, of a command: each saga's first one has its traceback."""
        key: Hashable
        if isinstance(error, OutputUnusable):
            key = head.activity, str(error)
        else:
            key = head.id, type(error), _place(error)
        return not self._is_new(key)

    def _is_new(self, key: Hashable) -> bool:
        new = key not in self._told
        self._told[key] = self._told.pop(key, None)
        if len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        return new


def _place(error: BaseException) -> tuple[str, int] | None:
    """Where it was raised: file and line."""
    lines = [*traceback.walk_tb(error.__traceback__)]
    return (lines[-1][0].f_code.co_filename, lines[-1][1]) if lines else None
