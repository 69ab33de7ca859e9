"""What one types in a new project, in this order. Each line works as it is printed: tests/commands runs them all."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from sagabus.commands.init.project import Project

ACTIVATE: Final = ". .venv/bin/activate"

LENDING: Final = (
    "sagabus start lending --id LOAN-1 --input loan.json",
    "sagabus show LOAN-1",
    """sagabus event LOAN-1 picked_up --data '{"desk": "entrance"}'""",
    "sagabus show LOAN-1",
)
"""A loan that goes well: it waits for the event, and then it is completed."""


def to_run(folder: Path, project: Project) -> list[str]:
    """Installs the project, tests it, and runs it. The last command goes on until Ctrl-C."""
    return [
        f"cd {shlex.quote(str(folder))}",
        f"{_python()} -m venv .venv",
        ACTIVATE,
        f"pip wheel --no-deps --wheel-dir wheels {shlex.quote(project.source.place)}",
        "pip install --editable '.[dev]'",
        "pytest",
        f"sagabus dev {' '.join(project.modules)}",
    ]


def to_use(folder: Path) -> list[str]:
    """From another terminal, while it runs."""
    return [f"cd {shlex.quote(str(folder.resolve()))}", ACTIVATE, *LENDING]


def _python() -> str:
    """`python3` where that is the Python that runs this, else its path: another one may be too old."""
    found = shutil.which("python3")
    same = found is not None and Path(found).samefile(sys.executable)
    return "python3" if same else shlex.quote(sys.executable)
