"""The rings of the tests: each test is in one, `make test-all` runs them all, and each run ends as pytest's runs do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.rings import LATER, PEOPLE, RINGS

TESTS = "import pytest\n\ndef test_of_people() -> None: ...\n\n" + "".join(
    f"@pytest.mark.ring({ring!r})\ndef test_of_{ring}() -> None: ...\n\n" for ring in LATER
)
SETTINGS = "[pytest]\nmarkers = ring(name): as in pyproject.toml\naddopts = --strict-markers\n"
CLOSING = re.compile(r"=+ (\d+) passed(, \d+ deselected)? in [\d.]+s =+")


def run(folder: Path, *arguments: str, tests: str = TESTS) -> subprocess.CompletedProcess[str]:
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_rings.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.rings", "-p", "no:cacheprovider", *arguments, "."]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=120, env=environment
    )


@pytest.mark.parametrize(
    ("rings", "passed"), [((), len(RINGS)), *(((ring,), 1) for ring in RINGS), (LATER, len(LATER))]
)
def test_a_ring_runs_what_is_its_own_and_says_so_in_its_last_line(
    tmp_path: Path, rings: tuple[str, ...], passed: int
) -> None:
    done = run(tmp_path, *(f"--ring={ring}" for ring in rings))
    assert done.returncode == 0, done.stdout + done.stderr
    closing = CLOSING.fullmatch(done.stdout.splitlines()[-1])
    assert closing is not None, done.stdout
    assert int(closing[1]) == passed


@pytest.mark.parametrize("workers", [0, 1])
def test_a_lone_surrogate_in_a_tests_output_does_not_end_the_run(tmp_path: Path, workers: int) -> None:
    tests = (
        "import logging\n\ndef test_odd() -> None:\n    logging.error('bad \\udcff')\n    assert False, 'bad \\udcff'\n"
    )
    done = run(tmp_path, "-p", "tests.support.reports", "-p", "xdist", f"-n{workers}", tests=tests)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert re.search(r"=+ 1 failed in [\d.]+s =+", done.stdout.splitlines()[-1])


def test_a_ring_that_is_not_there_is_refused(tmp_path: Path) -> None:
    wrong = TESTS + "@pytest.mark.ring('fautls')\ndef test_wrong() -> None: ...\n"
    done = run(tmp_path, tests=wrong)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_rings.py::test_wrong: ring('fautls',) is none of people, simulation" in done.stderr


def test_make_test_all_runs_every_ring() -> None:
    """As it would run them: `make -n` tells the commands."""
    told = subprocess.run(
        ["make", "-n", "test-all"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    ran = re.findall(r"-m pytest .*--ring (\w+)", told)
    assert [ring for number, ring in enumerate(ran) if ring not in ran[:number]] == [PEOPLE, *LATER]


def test_the_map_names_every_ring_and_every_folder() -> None:
    text = (ROOT / "tests" / "README.md").read_text()
    folders = {each.parent.name for each in (ROOT / "tests").glob("*/*.py")}
    assert [name for name in sorted(folders) if f"`{name}/" not in text] == []
    assert [ring for ring in RINGS if f"| `{ring}` |" not in text] == []
