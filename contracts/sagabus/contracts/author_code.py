"""Which code is its author's: errors name a line of that, not one of ours or of a library. The sample shop's is too."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Final

_LIBRARIES: Final = frozenset({"sagabus", "pydantic", "pydantic_core", *sys.stdlib_module_names})
"""First parts of the names of modules that are never the author's."""

_SAMPLES: Final = ("sagabus.shop.",)


def is_authors(frame: FrameType) -> bool:
    """Generated code, such as a dataclass's, is named `<string>`, and bears its class's module."""
    if frame.f_code.co_filename.startswith("<"):
        return False
    name = str(frame.f_globals.get("__name__", ""))
    return name.startswith(_SAMPLES) or name.partition(".")[0] not in _LIBRARIES
