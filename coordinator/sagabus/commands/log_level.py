"""`--log-level`, for every command that serves. It imports nothing that takes long: help is to be quick."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")


def level_argument(place: ArgumentParser) -> None:
    what = "write no log lines below this level (SAGABUS_LOG_LEVEL)"
    place.add_argument("--log-level", choices=LEVELS, help=what)
