"""Frames of a saga's code while it is pumped: whose they are, and how they are told to people."""

from __future__ import annotations

from types import FrameType
from typing import Final

from sagabus.coordinator.core.loop.loop import SagaLoop

OURS: Final = ("sagabus.contracts", "sagabus.coordinator")
_PUMP: Final = SagaLoop._run.__code__


def frames_of_pump(frame: FrameType | None) -> list[FrameType]:
    """From this frame up to the pump, the innermost first. Empty if it is not in one."""
    frames: list[FrameType] = []
    while frame is not None and frame.f_code is not _PUMP:
        frames.append(frame)
        frame = frame.f_back
    return [] if frame is None else frames


def is_in(frame: FrameType, modules: tuple[str, ...]) -> bool:
    """Whether its code stands in one of these modules, or below one."""
    name = frame.f_globals.get("__name__", "")
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def place(frames: list[FrameType]) -> str:
    """The innermost line, and the saga's own where that is another file."""
    own = [frame for frame in frames if not is_in(frame, OURS)] or frames
    if not own:
        return "the loop's own code"
    inner, outer = own[0], own[-1]
    called = "" if outer.f_code.co_filename == inner.f_code.co_filename else f", called from {_line(outer)}"
    return f"{_line(inner)}{called}"


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"
