"""Four houses, one namespace: the traps of docs/decisions/0001-layout.md."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from importlib import import_module, metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOUSES = sorted(folder.parent for folder in ROOT.glob("*/sagabus") if folder.is_dir())
PACKAGES = sorted(folder for house in HOUSES for folder in (house / "sagabus").iterdir() if folder.is_dir())


def test_there_are_four_houses() -> None:
    assert [house.name for house in HOUSES] == ["contracts", "coordinator", "messaging", "participants"]


@pytest.mark.parametrize("house", HOUSES, ids=lambda house: house.name)
def test_no_house_closes_the_namespace(house: Path) -> None:
    """An `__init__.py` there hides the other houses, and mypy goes on saying Success."""
    assert not (house / "sagabus" / "__init__.py").exists()
    assert not (house / "sagabus" / "shop" / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: f"{package.parents[1].name}-{package.name}")
def test_every_package_says_that_it_is_typed(package: Path) -> None:
    assert (package / "py.typed").is_file()


def test_every_folder_of_modules_is_a_package() -> None:
    """import-linter does not see into a folder without `__init__.py`. Alembic's versions are loaded by path."""
    open_folders = {folder for house in HOUSES for folder in (house / "sagabus", house / "sagabus" / "shop")}
    folders = {
        file.parent for house in HOUSES for file in (house / "sagabus").rglob("*.py") if file.parent.name != "versions"
    }
    assert [folder for folder in sorted(folders - open_folders) if not (folder / "__init__.py").exists()] == []


def test_no_module_stands_in_two_houses() -> None:
    modules = Counter(file.relative_to(house) for house in HOUSES for file in (house / "sagabus").rglob("*.py"))
    assert [module for module, count in modules.items() if count > 1] == []


def test_an_editable_install_sees_all_houses() -> None:
    """With a house missing in `dev-mode-dirs` an install would leave it out without a word."""
    assert sorted(PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]) == [house.name for house in HOUSES]
    pth = next(file for file in metadata.files("sagabus") or () if file.suffix == ".pth")
    assert sorted(map(Path, pth.read_text().splitlines())) == HOUSES
    assert sorted(map(Path, import_module("sagabus").__path__)) == [house / "sagabus" for house in HOUSES]


def test_the_wheel_takes_all_houses() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert sorted(wheel["only-include"]) == [f"{house.name}/sagabus" for house in HOUSES]
    assert sorted(wheel["sources"]) == [house.name for house in HOUSES]


def test_decisions_are_numbered_without_a_gap() -> None:
    """So that a page can be cited for good."""
    pages = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md") if path.name != "README.md")
    assert all(re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page) for page in pages)
    assert [int(page[:4]) for page in pages] == list(range(1, len(pages) + 1))
