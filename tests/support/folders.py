"""Folders for the data of an embedded PostgreSQL.

For root it runs as another user, who must get there: pytest's own folders are closed to others again by each test run
that begins on this machine.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder, gone on leaving."""
    folder = Path(tempfile.mkdtemp(prefix="sagabus-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
