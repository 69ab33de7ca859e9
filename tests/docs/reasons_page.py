"""The table of docs/dead-letters.md: each reason of a dead letter, who gives it, what it means, the usual cure."""

from __future__ import annotations

from typing import Final

from sagabus.commands.dead_letters.cures import cure_of
from sagabus.contracts import reasons
from sagabus.contracts.reasons import FATES, MEANINGS, Fate

DEAD: Final = sorted(reason for reason, fate in FATES.items() if fate is Fate.DEAD_LETTER)


def table() -> str:
    heads = "| reason | given by | what it means | usual cure |\n|---|---|---|---|"
    rows = (f"| `{reason}` | {_by(reason)} | {MEANINGS[reason]} | {cure_of(reason)} |" for reason in DEAD)
    return "\n".join((heads, *rows))


def _by(reason: str) -> str:
    both, participant = (reason in words[Fate.DEAD_LETTER] for words in (reasons._BOTH, reasons._PARTICIPANT))
    return "both" if both else "participant" if participant else "coordinator"
