"""A bus and a database of a host's own, and where it says that they are."""

from pathlib import Path
from typing import Final

from sagabus.messaging import database_url

FOLDER: Final = Path(".sagabus")
"""Of the host in the current directory."""


def folder_named(database: str) -> Path:
    """Where a host keeps its data and its run.json: DIR of `embedded:DIR`, else `.sagabus` in the current directory."""
    if database.startswith(database_url.EMBEDDED):
        return Path(database.removeprefix(database_url.EMBEDDED)).expanduser()
    return FOLDER
