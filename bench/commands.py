"""What a command costs in seconds of processor time, of this process's child: its imports, mostly.

    python -m bench.commands [rounds]

Client commands ask an address at which nobody listens, so that no coordinator's time is among it. Beside them stands
an interpreter that does nothing. Each figure is the best of several rounds, taken in turns: other work of the machine
makes processor time longer, never shorter.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from bench.results import keep

ROUNDS: Final = 15

COMMANDS: Final[Mapping[str, Sequence[str]]] = {
    "help": ["--help"],
    "dev_help": ["dev", "--help"],
    "completion": ["completion", "bash"],
    "start": ["start", "shop", "--id", "ORD-1", "--input", "{}"],
    "show": ["show", "ORD-1"],
    "list": ["list"],
    "cancel": ["cancel", "ORD-1"],
    "retry": ["retry", "ORD-1", "--step", "1", "--reason", "x"],
    "skip": ["skip", "ORD-1", "--step", "1", "--reason", "x"],
    "event": ["event", "ORD-1", "shop.decided"],
    "health": ["health"],
}


def seconds(command: Sequence[str]) -> float:
    """User and system time of one child."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("SAGABUS_")}
    nobody = {"SAGABUS_URL": "http://127.0.0.1:1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, env={**others, **nobody}, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    commands = {name: [sys.executable, "-m", "sagabus.commands.main", *words] for name, words in COMMANDS.items()}
    commands = {"nothing": [sys.executable, "-c", ""], **commands}
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            best[name] = min(best[name], seconds(command))
    keep("commands", rounds=rounds, **{f"{name}_cpu_s": round(figure, 3) for name, figure in best.items()})


if __name__ == "__main__":
    main()
