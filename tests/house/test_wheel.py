"""What a user gets: the wheel, alone in a fresh environment, as Python, mypy and pyright see it there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = Path(__file__).parent / "user_project"
MARK = re.compile(r"# E\d+\b")
MISTAKES = 19

pytestmark = pytest.mark.ring("deployment")


@dataclass(frozen=True, slots=True)
class Environment:
    """A fresh environment with the wheel in it, and beside it a folder with the user's project."""

    python: str
    folder: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Only the wheel is installed; the packages it depends on are seen where they are.

    They stand behind a .pth of the fresh environment. A folder named so is searched, and its own .pth files are not
    read: our sources, which the editable install names in one, stay out of sight.
    """
    folder = tmp_path_factory.mktemp("user")
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=120)
    python = str(venv / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True, timeout=120)
    site = next((venv / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(PROJECT, folder / "orders", ignore=shutil.ignore_patterns("__pycache__"))
    return Environment(python, folder)


def test_the_wheel_holds_every_module_and_nothing_else(wheel: Path) -> None:
    sources = {
        file.relative_to(house.parent).as_posix()
        for house in ROOT.glob("*/sagabus")
        for file in house.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == sources


def test_every_package_of_the_wheel_is_typed(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    packages = {"/".join(name.split("/")[:2]) for name in names if ".dist-info/" not in name}
    assert {f"{package}/py.typed" for package in packages} <= set(names)


def test_the_licence_is_in_the_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_module_imports_from_the_wheel_alone(environment: Environment, wheel: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    modules = [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names]
    wanted = [module for module in modules if not module.endswith("__main__") and ".migrations." not in module]
    script = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    done = environment.run(environment.python, "-W", "ignore", "-c", script, *wanted)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if not line.startswith(str(environment.folder))] == []


def test_the_command_is_installed(environment: Environment) -> None:
    done = environment.run(str(Path(environment.python).with_name("sagabus")), "--help")
    assert done.returncode == 0, done.stderr
    assert "demo" in done.stdout


def test_a_project_can_be_begun_from_the_wheel(environment: Environment, wheel: Path) -> None:
    """The templates are in it, and the project is told to install this very file."""
    done = environment.run(str(Path(environment.python).with_name("sagabus")), "init", "library")
    assert done.returncode == 0, done.stderr
    assert f"pip wheel --no-deps --wheel-dir wheels {wheel}" in done.stdout
    made = environment.folder / "library"
    assert (made / "library" / "shelf.py").is_file()
    assert (made / "docker-compose.yml").is_file()


Faults = set[tuple[str, int]]
Checker = Callable[[Environment], Faults]


def mypy(environment: Environment) -> Faults:
    """(file, line) of each error in the user's project, by `mypy --strict`."""
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", environment.python]
    done = environment.run(*command, "--config-file=", "--no-pretty", "--show-error-end", "-p", "orders")
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert re.search(r"^(Success|Found \d+)", done.stdout, re.MULTILINE), done.stdout
    found = re.findall(r"^orders/(\w+\.py):(\d+):[\d:]* error: ", done.stdout, re.MULTILINE)
    return {(file, int(line)) for file, line in found}


def pyright(environment: Environment) -> Faults:
    """(file, line) of each error in the user's project, by pyright in strict mode."""
    config = {"include": ["orders"], "typeCheckingMode": "strict", "reportWildcardImportFromLibrary": False}
    (environment.folder / "pyrightconfig.json").write_text(json.dumps(config))
    done = environment.run(sys.executable, "-m", "pyright", "--pythonpath", environment.python, "--outputjson")
    answer = json.loads(done.stdout)
    assert answer["summary"]["filesAnalyzed"] == len(list(PROJECT.glob("*.py"))), done.stdout
    errors = [one for one in answer["generalDiagnostics"] if one["severity"] == "error"]
    return {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in errors}


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_marked_mistakes_are_refused_and_nothing_else(environment: Environment, checker: Checker) -> None:
    lines = (PROJECT / "misuse.py").read_text().splitlines()
    marked = {("misuse.py", number) for number, line in enumerate(lines, start=1) if MARK.search(line)}
    assert len(marked) == MISTAKES
    found = checker(environment)
    assert found - marked == set(), "refused, and right"
    assert marked - found == set(), "let through, and wrong"
