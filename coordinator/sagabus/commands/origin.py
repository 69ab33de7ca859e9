"""The line of the author's code that an error came from, as editors and terminals take it: `shop/contracts.py:12`."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

from sagabus.contracts.author_code import is_authors

INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
"""Folders of what others wrote. The author's own code may be there too: in an image it is installed."""


def origin(error: BaseException) -> str:
    """The innermost line outside of the libraries; empty where there is none. Of a SyntaxError, what cannot be read."""
    if isinstance(error, SyntaxError) and error.filename:
        return shown_line(error.filename, error.lineno or 0)
    lines = [line for line in traceback.walk_tb(error.__traceback__) if is_authors(line[0])]
    if not lines:
        return ""
    own = [line for line in lines if not INSTALLED.intersection(Path(line[0].f_code.co_filename).parts)]
    frame, number = (own or lines)[-1]
    return shown_line(frame.f_code.co_filename, number)


def shown_line(file: str, line: int) -> str:
    """As short as it can be written from here."""
    path, here = Path(file), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{line}"
