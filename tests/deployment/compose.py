"""docker-compose.yml as it is written: its services, and how one starts as a process of this machine.

Nothing is added to what stands there. Names of containers become addresses on loopback, `/tmp` a folder of the
service's own, and `${NAME:-default}` its default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.processes import ROOT

FILE = ROOT / "docker-compose.yml"

UNITS = {"s": 1, "m": 60}


@dataclass(frozen=True)
class Service:
    name: str
    spec: Mapping[str, Any]

    @property
    def ours(self) -> bool:
        """Whether it is built here."""
        return "build" in self.spec

    @property
    def job(self) -> bool:
        return bool(self.spec["restart"].startswith("on-failure"))

    @property
    def settings(self) -> Mapping[str, str]:
        return dict(self.spec["environment"])

    @property
    def command(self) -> Sequence[str]:
        return list(self.spec["command"])

    @property
    def health(self) -> Sequence[str]:
        """The command of its health check."""
        kind, *command = map(str, self.spec["healthcheck"]["test"])
        assert kind == "CMD"
        return command

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return seconds(self.spec["stop_grace_period"])

    @property
    def needs(self) -> Mapping[str, str]:
        """Service to condition."""
        return {name: one["condition"] for name, one in self.spec.get("depends_on", {}).items()}


def services(file: Path = FILE) -> dict[str, Service]:
    return {name: Service(name, spec) for name, spec in whole(file)["services"].items()}


def whole(file: Path = FILE) -> Mapping[str, Any]:
    """With the defaults of its variables."""
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", file.read_text())
    assert "${" not in text
    found: Mapping[str, Any] = yaml.safe_load(text)
    return found


def waves(some: Iterable[Service]) -> Iterator[list[Service]]:
    """Those that may start at once, after all that they need of the others."""
    left = {one.name: one for one in some}
    while left:
        wave = [one for one in left.values() if not left.keys() & one.needs.keys()]
        assert wave, f"a circle: {', '.join(left)}"
        yield wave
        left = {name: one for name, one in left.items() if one not in wave}


def seconds(text: str) -> float:
    return float(text[:-1]) * UNITS[text[-1]]


def put(text: str, places: Mapping[str, str]) -> str:
    """With the places of this machine for those of the containers."""
    for there, here in places.items():
        text = text.replace(there, here)
    return text
