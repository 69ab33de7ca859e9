"""A bus and a database of a host's own, and where it says that they are."""

from pathlib import Path
from typing import Final

FOLDER: Final = Path(".sagabus")
"""Of the host in the current directory."""
