"""What makes a replay differ, in a few words that are stored with the saga: name, version, Python, code (H7).

asyncio orders some things otherwise in another minor version of Python, so that is part of it. A fingerprint that
differs proves nothing by itself and refuses nothing: the replay decides. It explains why a replay went astray.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

_PARTS: Final = re.compile(r"(?P<name>.+)-v(?P<version>-?\d+)-py(?P<Python>\d+\.\d+)-(?P<code>[0-9a-f]{16})")

UNCHANGED: Final = (
    "neither the saga's own code nor Python has changed: look at what it calls in other modules, and for clocks, "
    "randomness and sets of strings in it"
)

ANOTHER_ORDER: Final = (
    "neither the saga's own code nor Python has changed, and the code makes this further on in its history: does it "
    "iterate a set of strings? Each process has another order of them. Write `for tag in sorted(tags)`; this saga goes "
    "on in a coordinator started with the PYTHONHASHSEED that brings the order of its history (docs/deployment.md)"
)


def fingerprint(name: str, version: int, python: str, sources: Iterable[str]) -> str:
    """python: such as "3.11". sources: of the code that may decide what the saga does, in a settled order."""
    digest = hashlib.sha256("\0".join(sources).encode(errors="replace")).hexdigest()[:16]
    return f"{name}-v{version}-py{python}-{digest}"


def what_changed(old: str, new: str, *, reordered: bool = False) -> str:
    """For a person, behind the first difference of a replay. Nothing where nothing is known of the old one.

    reordered: the code does what its history says, in another order.
    """
    if not old or not new:
        return ""
    if old == new:
        return ANOTHER_ORDER if reordered else UNCHANGED
    before, after = _PARTS.fullmatch(old), _PARTS.fullmatch(new)
    if before is None or after is None:
        return f"its fingerprint has changed ({old} → {new})"
    changes = [
        f"its {part} has changed ({before[part]} → {after[part]})" if part != "Python"
        else f"Python has changed ({before[part]} → {after[part]})"
        for part in ("name", "version", "code", "Python")
        if before[part] != after[part]
    ]  # fmt: skip
    return " and ".join(changes)
