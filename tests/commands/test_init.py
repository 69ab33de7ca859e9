"""A project of one's own: it is written, checks and tests itself, and its saga runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands.init.project import MODULES, SHOP, Project, source_of
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from tests.support.folders import data_folder
from tests.support.ports import free_port
from tests.support.processes import Child, clean

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """Made once for all tests, in no folder of the repository's."""
    with data_folder() as folder:
        assert main(["init", str(folder / "book-shop"), "--name", "bookshop"]) == Exit.DONE
        yield folder / "book-shop"


def run(project: Path, *command: str) -> str:
    """By this environment's Python; our own configuration is out of sight."""
    environment = {name: value for name, value in clean({}).items() if name != "PYTHONPATH"}
    command = (sys.executable, "-m", *command)
    done = subprocess.run(
        command, check=False, cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.ring("deployment")
def test_the_project_passes_its_own_tests(project: Path) -> None:
    assert "7 passed" in run(project, "pytest", "-q", "-p", "no:cacheprovider")


@pytest.mark.ring("deployment")
def test_the_project_is_typed_strictly(project: Path) -> None:
    assert "Success" in run(project, "mypy", "--cache-dir", str(ROOT / ".cache" / "mypy-project"))


@pytest.mark.ring("deployment")
def test_b12_its_type_checker_finds_a_call_without_await(project: Path) -> None:
    """mypy's `unused-awaitable`, which --strict leaves out."""
    saga = project / "bookshop" / "order_processing.py"
    source = saga.read_text()
    saga.write_text(source.replace("shipment = await ctx.call(", "ctx.call("))
    try:
        with pytest.raises(AssertionError, match=r'Value of type "Call\[\w+\]" must be used  \[unused-awaitable\]'):
            run(project, "mypy", "--cache-dir", str(ROOT / ".cache" / "mypy-project"))
    finally:
        saga.write_text(source)


def test_the_project_can_be_packed(project: Path, tmp_path: Path) -> None:
    """As its Dockerfile does it, but without a look at an index."""
    run(project, "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["bookshop-0.1.0-py3-none-any.whl"]


@pytest.mark.ring("deployment")
async def test_its_saga_runs(project: Path, run_folder: Path) -> None:
    settings = {"SAGABUS_HTTP": f"127.0.0.1:{free_port()}", "PYTHONPATH": f"{ROOT}{os.pathsep}{project}"}
    modules = [f"bookshop.{name}" for name in MODULES[1:]]
    data = str(project / ".sagabus")
    with Child.python(
        "sagabus.commands.main", "dev", "--folder", data, *modules, folder=run_folder, settings=settings
    ) as dev:
        await dev.says("ready at")
        command = ("start", "order_processing", "--id", "ORD-1", "--input", str(project / "order.json"), "--wait")
        asked = {"SAGABUS_URL": f"http://{settings['SAGABUS_HTTP']}"}
        start = Child.python(
            "sagabus.commands.main", *command, "--json", folder=run_folder, name="start", settings=asked
        )
        assert await start.ended() == Exit.DONE, start.report()
        assert json.loads(start.stdout)["result"]["confirmation_number"] == "TRACK-ORD-1"
        dev.terminate()
        assert await dev.ended() == Exit.DONE, dev.report()


def test_the_shop_is_copied_and_nothing_of_its_name_is_left(project: Path) -> None:
    for name in MODULES:
        text = (project / "bookshop" / f"{name}.py").read_text()
        assert text == source_of(f"{SHOP}.{name}").replace(SHOP, "bookshop")
    written = [file for file in project.rglob("*") if file.is_file() and file.suffix not in {".pyc", ".whl"}]
    assert not [file for file in written if SHOP in file.read_text(errors="replace")]
    assert not [file for file in written if "@package@" in file.read_text(errors="replace")]


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", ".dockerignore"])
def test_this_repository_is_deployed_by_the_same_files(name: str) -> None:
    """One text for both: what tests/deployment shows of ours is so for a project's."""
    assert (ROOT / name).read_text() == Project(SHOP, "sagabus").files()[name]


def test_it_tells_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "books"
    assert main(["init", str(folder), "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["package"] == "books"
    assert [command.split()[0] for command in told["next"]] == ["cd", "sagabus", "sagabus"]
    assert {str(folder / name) for name in told["files"]} == {str(f) for f in folder.rglob("*") if f.is_file()}
    assert main(["init", str(tmp_path / "more")]) == Exit.DONE
    assert f"  cd {tmp_path / 'more'}\n  sagabus dev more.order_processing" in capsys.readouterr().out


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    assert main(["init", str(folder)]) == Exit.DONE
    (folder / "README.md").write_text("mine")
    assert main(["init", str(folder)]) == Exit.REFUSED
    assert "not empty" in capsys.readouterr().err
    assert main(["init", str(folder / "README.md"), "--name", "books"]) == Exit.REFUSED
    assert main(["init", str(folder / "README.md" / "deeper")]) == Exit.REFUSED
    assert (folder / "README.md").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("book-shop", "--name book_shop"), ("2books", "--name my_2books"), ("class", "--name my_class"),
        ("json", "--name my_json"), ("sagabus", "--name my_sagabus"), ("a.b", "--name a_b"), ("böks", "--name b_ks"),
    ],
)  # fmt: skip
def test_a_name_that_no_package_can_have_is_refused_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, cure: str
) -> None:
    assert main(["init", str(tmp_path / name)]) == Exit.USAGE
    assert cure in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert main(["init", str(tmp_path / name), "--name", cure.removeprefix("--name ")]) == Exit.DONE
