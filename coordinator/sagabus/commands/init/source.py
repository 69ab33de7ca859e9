"""Where sagabus was installed from. A new project installs it from the same place: from the checkout, or the wheel.

Installers record it in `direct_url.json` (PEP 610), except for what came from an index. Nothing here writes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

_ARCHIVE: Final = re.compile(r"sagabus-([^-]+)(?:-py3-none-any\.whl|\.tar\.gz)")
"""A wheel or a source archive of ours, with its version."""


class SourceUnusable(Exception):
    """The sentence says what is wrong with the place, without a cure."""


@dataclass(frozen=True, slots=True)
class Source:
    """place: what `pip wheel` is given: a folder, an archive, or a URL. version: of the sagabus that is there."""

    place: str
    version: str

    @property
    def wheel(self) -> str:
        """The name of the file that `pip wheel` makes of it."""
        return f"sagabus-{self.version}-py3-none-any.whl"


def installed_source() -> Source:
    """Of the sagabus that runs. Raises SourceUnusable."""
    record = distribution("sagabus").read_text("direct_url.json")
    if record is None:
        raise SourceUnusable("this sagabus has no record of where it was installed from")
    return source_at(_place(json.loads(record)))


def source_at(place: str) -> Source:
    """place: a checkout, a wheel, a source archive, or a URL, which is not looked at. Raises SourceUnusable."""
    if "://" in place:
        return Source(place, version("sagabus"))
    path = Path(place).resolve()
    if not path.exists():
        raise SourceUnusable(f"{path} does not exist")
    found = _version_of_checkout(path) if path.is_dir() else _version_of_archive(path)
    if found is None:
        raise SourceUnusable(f"{path} is not a checkout, a wheel or a source archive of sagabus")
    return Source(str(path), found)


def _place(record: Mapping[str, Any]) -> str:
    """The URL of a record, as pip takes it; of a file or a folder of this machine, its path."""
    url: str = record["url"]
    if "vcs_info" in record:
        info = record["vcs_info"]
        return f"{info['vcs']}+{url}@{info['commit_id']}"
    parts = urlsplit(url)
    return url2pathname(parts.path) if parts.scheme == "file" else url


def _version_of_checkout(folder: Path) -> str | None:
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"]) if project["name"] == "sagabus" else None
    except (OSError, ValueError, KeyError):
        return None


def _version_of_archive(file: Path) -> str | None:
    found = _ARCHIVE.fullmatch(file.name)
    return found[1] if found else None
