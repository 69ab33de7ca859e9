"""One run of a peer's program, on a database of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.figures import distribution
from bench.load_run import POSTGRESQL
from bench.processor_time import Reading, milliseconds_each
from tests.support.postgres import PostgresServer
from tests.support.processes import Child

PROGRAMS: Final = Path(__file__).parent
LONGEST: Final = 900.0
"""Seconds after which a program counts as hung."""

ENGINE: Final = "engine"


@dataclass(frozen=True)
class Work:
    """together: sagas that run at the same time. alone: one after the other."""

    together: int
    alone: int


async def measured(peer: str, python: Path, server: PostgresServer, folder: Path, work: Work) -> dict[str, float]:
    """sagas_per_s, cpu_ms.KIND a saga, and alone.p50 and so on in milliseconds. Kinds: engine and postgresql."""
    with server.database() as url:
        program = [str(python), str(PROGRAMS / f"{peer}_orders.py"), url, str(work.together), str(work.alone)]
        with Child(program, folder=folder, name=peer) as child:
            await child.says("ready", within=LONGEST)
            reading = Reading({ENGINE: [child.pid], POSTGRESQL: [server.process.pid]})
            await child.says("together_s", within=LONGEST)
            spent = milliseconds_each(reading.spent(), work.together)
            await child.says("alone_s", within=LONGEST)
            together_s, alone_s = told(child.stdout)
    alone = distribution(alone_s)
    return {
        "sagas_per_s": round(work.together / together_s, 1),
        **{f"cpu_ms.{kind}": value for kind, value in spent.items()},
        **{f"alone.{name}": value for name, value in alone.items()},
    }


def told(output: str) -> tuple[float, list[float]]:
    """Seconds of all sagas together, and of each that was alone: from the lines of JSON."""
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    found: dict[str, Any] = {name: value for line in lines for name, value in line.items()}
    return found["together_s"], found["alone_s"]
