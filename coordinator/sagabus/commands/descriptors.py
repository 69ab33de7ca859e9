"""How many files and connections a service may have open. Many systems give 1,024 until a process asks for more."""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

WANTED: Final = 65_536


def raise_descriptor_limit() -> None:
    """The soft limit to the hard one, or to what is enough; where that is refused, it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
