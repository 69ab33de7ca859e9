"""Environments of the peers: made once, each below .cache/peers, by venv and pip."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.program import tell

CACHE: Final = Path(__file__).parents[2] / ".cache" / "peers"

REQUIREMENTS: Final = {"dbos": "dbos==3.4.0", "edda": "edda-framework[postgresql]==0.16.2"}
"""Of each peer, in a version of its own: figures of another one are another figure."""

INSTALL_SECONDS: Final = 600
TOLD: Final = 300
"""Characters of pip's last words."""


class NotInstalled(Exception):
    """pip could not install it here. The message says what pip said."""


def environment(peer: str) -> Path:
    """Its Python; installed if need be. Raises NotInstalled."""
    requirement = REQUIREMENTS[peer]
    folder = CACHE / requirement.replace("[", "-").replace("]", "")
    python, done = folder / "bin" / "python", folder / "installed"
    if not done.exists():
        tell(f"installing {requirement} into {folder.relative_to(CACHE.parents[1])}")
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement])
        done.touch()
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as late:
        raise NotInstalled(f"pip took more than {INSTALL_SECONDS} s") from late
    if done.returncode != 0:
        raise NotInstalled(done.stderr.strip()[-TOLD:] or done.stdout.strip()[-TOLD:])
