"""What `sagabus init` prints works: each line is typed as it stands, in a fresh folder, and so is the project's README.

It installs from the package index, as its user would.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.folders import data_folder
from tests.support.ports import free_port
from tests.support.processes import ROOT, Child, clean
from tests.support.transcripts import Page, assert_seen, commands

pytestmark = pytest.mark.ring("deployment")

INSTALL_SECONDS = 900
"""A slow index counts as slow, not as broken."""


@dataclass(frozen=True)
class Begun:
    """folder: where init was typed. first: what it told to type there; then: from another terminal."""

    folder: Path
    first: Sequence[str]
    then: Sequence[str]

    @property
    def project(self) -> Path:
        return self.folder / "library"

    @property
    def readme(self) -> Page:
        return Page((self.project / "README.md").read_text())


@pytest.fixture(scope="module")
def begun() -> Iterator[Begun]:
    """From this checkout. All but the last command is typed; that one runs until it is stopped."""
    with data_folder() as folder:
        begun = begin(folder)
        shell(begun.first[:-1], folder)
        yield begun


def begin(folder: Path, *options: str) -> Begun:
    command = [str(Path(sys.executable).with_name("sagabus")), "init", "library", *options, "--json"]
    done = subprocess.run(command, cwd=folder, env=clean({}), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    return Begun(folder, told["next"], told["from_another_terminal"])


def shell(lines: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> str:
    """As if they were typed one after the other; what they say. One that fails is the last."""
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)], cwd=folder, env=clean(settings or {}), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False, timeout=INSTALL_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_its_own_tests_pass_and_its_types_are_right(begun: Begun) -> None:
    said = shell([*begun.first[:3:2], "pytest", "mypy"], begun.folder)
    assert "5 passed" in said
    assert "Success" in said


async def test_its_saga_runs_to_its_end_as_it_is_told(begun: Begun, run_folder: Path) -> None:
    """What init prints for the other terminal is the README's first transcript."""
    settings = clean({"SAGABUS_HTTP": f"127.0.0.1:{free_port()}"})
    script = "\n".join([*begun.first[:3:2], f"exec {begun.first[-1]}"])
    dev = Child(
        ["bash", "-e", "-c", f"cd {begun.folder}\n{script}"], folder=run_folder, name="dev", environment=settings,
        last_signal=signal.SIGTERM,
    )  # fmt: skip
    await dev.says("ready at")
    enter, activate, *lending = begun.then
    assert enter == f"cd {begun.project}"
    activated = {**clean({}), "BASH_ENV": str(begun.project / activate.removeprefix(". "))}
    shown = begun.readme.of("console")
    assert [command for command, _ in commands(shown[0].text)] == lending
    for transcript in shown:
        assert_seen(transcript.text, begun.project, activated)
    dev.terminate()
    assert await dev.ended() == 0, dev.report()


def test_the_readme_tells_the_same_commands(begun: Begun) -> None:
    install = [line for line in begun.readme.block("sh", "install").splitlines() if line.startswith("pip")]
    assert install == [line for line in begun.first if line.startswith("pip")]
    assert begun.readme.block("sh", "dev").splitlines() == [begun.first[-1]]


def test_its_image_would_hold_all_that_it_needs(begun: Begun, tmp_path: Path) -> None:
    """The two pip commands of its Dockerfile, with other folders: a container's build is at another place."""
    lines = (begun.project / "Dockerfile").read_text().splitlines()
    make = next(line for line in lines if line.startswith("RUN pip wheel")).removeprefix("RUN ")
    take = next(line for line in lines if line.strip().startswith("pip install")).strip()
    wheels = tmp_path / "wheels"
    shell([
        f"cp -r {begun.project} {tmp_path}/source", f"rm -rf {tmp_path}/source/.venv", f"cd {tmp_path}/source",
        f". {begun.project}/.venv/bin/activate", make.replace("/wheels .", f"{wheels} ."),
        f"rm -rf {tmp_path}/source", f"cd {tmp_path}", "python3 -m venv image", ". image/bin/activate",
        take.replace("/wheels/", f"{wheels}/"), "sagabus --help", "python -c 'import library.lending, library.shelf'",
    ], tmp_path)  # fmt: skip


def test_a_project_may_take_a_wheel_as_well(tmp_path: Path) -> None:
    """What is copied is what pyproject.toml names; the rest is the same."""
    built = tmp_path / "a folder"
    shell([f"{sys.executable} -m build --wheel --no-isolation --outdir '{built}' {ROOT}"], tmp_path)
    (wheel,) = built.glob("*.whl")
    begun = begin(tmp_path, "--from", str(wheel))
    copy = next(line for line in begun.first if line.startswith("pip wheel"))
    shell([begun.first[0], f"{sys.executable} -m {copy}"], tmp_path)
    assert (begun.project / "wheels" / wheel.name).read_bytes() == wheel.read_bytes()
    assert f"/wheels/{wheel.name}" in (begun.project / "pyproject.toml").read_text()


def test_uv_does_the_same(tmp_path: Path) -> None:
    """The README's commands for it, typed in a fresh project."""
    begun = begin(tmp_path)
    lines = begun.readme.block("sh", "uv").splitlines()
    assert [line.split()[:2] for line in lines] == [["uv", "build"], ["uv", "sync"], ["uv", "run"]]
    make = [f"{sys.executable} -m venv tools", "tools/bin/pip install --quiet uv", "PATH=$PWD/tools/bin:$PATH"]
    assert "5 passed" in shell([*make, begun.first[0], *lines], tmp_path)
