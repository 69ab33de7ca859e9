"""The table of all concerns and their cures, from the table that the log, `show`, the API and `doctor` use."""

from __future__ import annotations

from sagabus.coordinator.core.saga.cure import CURES, cure_of_any


def table() -> str:
    rows = [f"| `{kind}` | {cure.means} | {cure_of_any(kind)} |\n" for kind, cure in CURES.items()]
    return "".join(("| concern | means | cure |\n|---|---|---|\n", *rows)).rstrip("\n")
