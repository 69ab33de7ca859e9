"""How often a service's process looks for garbage in cycles. Objects without cycles go at once, as always."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 100_000
"""New objects until the next look: more than a busy turn's worth, since what a look meets in the middle of a turn it
meets for nothing. With half as many a saga cost twice the time for it. Python's default is 700."""

YOUNG_LOOKS: Final = 10
"""After which what has lived through them is looked through as well."""

MIDDLE_LOOKS: Final = 100
"""After which everything is."""


def collect_rarely() -> None:
    """For the whole process; what is there now is never looked through again. May be called twice.

    Open sagas are tens of thousands of objects that live long, and a turn makes as many that die with it.
    """
    gc.freeze()  # modules, definitions, clients: here to stay
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_LOOKS, MIDDLE_LOOKS)
