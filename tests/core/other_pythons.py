"""Other Pythons than the one that runs the tests, with all that the pure core needs.

They are looked for in the PATH and by pyenv. The core needs pydantic, a part of which is compiled for one Python only:
the first run has pip fetch it for each of them, into the cache of this repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOUSES = ("contracts", "messaging", "coordinator", "participants")
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = sorted({"3.11", "3.12", "3.13", OWN})
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class NotThere(Exception):
    """What is missing, and how to get it."""


@cache
def python(version: str) -> str:
    """One that runs, and is what it says: a shim in the PATH may be neither. Raises NotThere."""
    say = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates(version):
        said = subprocess.run([candidate, "-c", say], capture_output=True, text=True, timeout=60, check=False)
        if said.stdout.strip() == version:
            return candidate
    raise NotThere(f"install Python {version}, or put python{version} in the PATH")


def _candidates(version: str) -> Iterator[str]:
    if version == OWN:
        yield sys.executable
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")), reverse=True)


@cache
def environment(version: str) -> dict[str, str]:
    """In which that Python can import the core. Raises NotThere."""
    places = [str(ROOT), *(str(ROOT / house) for house in HOUSES)]
    if version != OWN:
        places.append(str(_packages(version)))
    return {**CLEAN, "PYTHONPATH": os.pathsep.join(places)}


def _packages(version: str) -> Path:
    wanted = f"pydantic=={installed('pydantic')}"
    folder = ROOT / ".cache" / "pythons" / f"{version}-{wanted}"
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(part),
            "--python-version", version, "--implementation", "cp", "--only-binary", ":all:", wanted,
        ]  # fmt: skip
        try:
            subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=CLEAN)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            shutil.rmtree(part, ignore_errors=True)
            said = str(error.stderr or error).strip()[-200:]
            raise NotThere(f"pip could not fetch {wanted} for it: {said}") from error
        part.rename(folder)
    return folder
