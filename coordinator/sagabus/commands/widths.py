"""How long a line may be, and what is left of a longer one: its beginning, with a mark that there is more."""

from __future__ import annotations

import shutil
from typing import Final

NO_TERMINAL: Final = 120
"""Characters of a line where the output is no terminal. Scripts read --json, which is whole."""

MARK: Final = "…"


def line_width() -> int:
    """Characters of a line of the terminal. The variable COLUMNS says otherwise, as everywhere."""
    return shutil.get_terminal_size((NO_TERMINAL, 24)).columns


def cut(text: str, width: int) -> str:
    """At most so many characters."""
    return text if len(text) <= width else text[: max(0, width - len(MARK))] + MARK
