"""A project of one's own: it is written, fits together, and says where it gets sagabus from."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from sagabus.commands import modules
from sagabus.commands.init.project import Project
from sagabus.commands.init.source import Source, source_at
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from sagabus.participants import Participant
from tests.support.folders import data_folder
from tests.support.processes import ROOT, clean

NAMES = ("contracts", "lending", "shelf", "members")
SHOP = Project(
    package="sagabus.shop", name="sagabus", source=Source(".", version("sagabus")), saga="order_processing",
    services=("inventory", "payment", "shipping"), database="shop",
)  # fmt: skip


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """Made once for all tests, in no folder of the repository's."""
    with data_folder() as folder:
        assert main(["init", str(folder / "my-library"), "--name", "lent_books"]) == Exit.DONE
        yield folder / "my-library"


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
def test_the_project_is_typed_strictly(project: Path) -> None:
    assert "Success" in run(project, "mypy", "--cache-dir", str(ROOT / ".cache" / "mypy-project"))


@pytest.mark.ring("deployment")
def test_b12_its_type_checker_finds_a_call_without_await(project: Path) -> None:
    """mypy's `unused-awaitable`, which --strict leaves out."""
    saga = project / "lent_books" / "lending.py"
    source = saga.read_text()
    saga.write_text(source.replace("await ctx.call(add_loan(", "ctx.call(add_loan("))
    try:
        with pytest.raises(AssertionError, match=r'Value of type "Call\[\w+\]" must be used  \[unused-awaitable\]'):
            run(project, "mypy", "--cache-dir", str(ROOT / ".cache" / "mypy-project"))
    finally:
        saga.write_text(source)


@pytest.mark.ring("deployment")
@pytest.mark.parametrize("command", [("check",), ("format", "--check")], ids=lambda command: str(command[0]))
def test_the_project_is_written_as_ruff_wants_it(project: Path, command: tuple[str, ...]) -> None:
    rules = ("--select", "B,C4,E,F,I,N,PT,SIM,UP,W") if command == ("check",) else ()
    run(project, "ruff", *command, "--isolated", "--no-cache", "--line-length", "120", *rules, ".")


def test_the_project_can_be_packed(project: Path, tmp_path: Path) -> None:
    """As its Dockerfile does it, but without a look at an index."""
    run(project, "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["lent_books-0.1.0-py3-none-any.whl"]


def test_its_saga_and_its_services_are_found_and_each_command_has_a_handler(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    contracts = importlib.import_module("lent_books.contracts")
    found = modules.find([f"lent_books.{name}" for name in NAMES[1:]])
    assert [one.name for one in found.definitions] == ["lending"]
    assert {one.service.name for one in found.participants} == {"shelf", "members"}
    for one in found.participants:
        assert isinstance(one, Participant)
        assert one.service is getattr(contracts, one.service.name)
        assert one.handlers.keys() == one.service.activities.keys()


def test_no_place_of_a_template_is_left_open_and_the_shop_is_not_in_it(project: Path) -> None:
    written = [file for file in project.rglob("*") if file.is_file() and file.suffix not in {".pyc", ".whl"}]
    assert len(written) > 12
    for file in written:
        assert not re.search(r"(?<!\w)@\w+@|@package|sagabus\.shop|order_processing", file.read_text()), file


SAMPLE = r"librar|lend|loan|book|shelf|member|copy"
"""Words of the sample's domain."""


def test_what_is_no_part_of_the_sample_bears_the_name_that_was_given(tmp_path: Path) -> None:
    """Of the files that pack and deploy it; the modules keep the names of the sample's domain."""
    assert main(["init", str(tmp_path / "Pay-2"), "--name", "Pay_Ments"]) == Exit.DONE
    for name in ("pyproject.toml", "docker-compose.yml", "Dockerfile", ".gitignore", ".dockerignore"):
        text = (tmp_path / "Pay-2" / name).read_text()
        modules_left_out = re.sub(r"Pay_Ments\.\w+|^  (shelf|members):$", "", text, flags=re.MULTILINE)
        found = re.findall(rf"\w*(?:{SAMPLE})\w*", modules_left_out, flags=re.IGNORECASE)
        assert set(found) <= {"COPY", "bookworm"}, name  # a command of Docker's, a release of Debian's
    told = tomllib.loads((tmp_path / "Pay-2" / "pyproject.toml").read_text())["project"]
    assert (told["name"], told["description"]) == ("pay-ments", "Sagas and services of pay-ments.")
    compose = yaml.safe_load((tmp_path / "Pay-2" / "docker-compose.yml").read_text())
    assert (compose["name"], compose["x-service"]["image"]) == ("pay-ments", "pay-ments:0.1.0")
    postgres = compose["services"]["postgres"]["environment"]
    assert (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]) == ("pay_ments", "pay_ments")
    assert compose["x-service"]["environment"]["SAGABUS_DATABASE"].startswith("postgresql://pay_ments:")


@pytest.mark.parametrize("name", ["lending", "LoanRequest", "picked_up", "shelf", "reserve_copy"])
def test_its_readme_lists_the_files_in_which_a_name_stands(project: Path, name: str) -> None:
    """Who changes the saga, its input, its event, a service or an activity changes these, and no others."""
    table = (project / "README.md").read_text().partition("## Change it")[2].partition("\n\n-")[0]
    row = next(line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
    listed = set(re.findall(r"`([^`]+)`", row.split("|")[2].partition(";")[0]))
    word = re.compile(rf"(?<![a-z]){name}(?![a-z_])")
    written = {file.relative_to(project).as_posix(): file for file in project.rglob("*") if file.is_file()}
    texts = {path: file.read_text() for path, file in written.items() if file.suffix not in {".pyc", ".whl"}}
    assert listed == {path for path, text in texts.items() if word.search(path + text)}


def test_sagabus_comes_from_a_file_of_the_project_and_from_no_index(project: Path) -> None:
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    wheel = f"wheels/sagabus-{version('sagabus')}-py3-none-any.whl"
    assert told["dependencies"] == [f"sagabus @ {{root:uri}}/{wheel}"]
    assert not [line for line in told["optional-dependencies"]["dev"] if line.startswith("sagabus")]
    assert "wheels" not in (project / ".gitignore").read_text() + (project / ".dockerignore").read_text()


@pytest.mark.parametrize("name", ["docker-compose.yml", "Dockerfile", ".dockerignore"])
def test_this_repository_is_deployed_by_the_same_files(name: str) -> None:
    """One text for both: what tests/deployment shows of ours is so for a project's."""
    assert (ROOT / name).read_text() == SHOP.files()[name]


def test_it_tells_what_comes_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "books"
    assert main(["init", str(folder), "--json"]) == Exit.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["package"] == "books"
    assert told["next"][3] == f"pip wheel --no-deps --wheel-dir wheels {ROOT}"
    assert told["next"][-1] == "sagabus dev books.lending books.shelf books.members"
    assert told["from_another_terminal"][:2] == [f"cd {folder}", ". .venv/bin/activate"]
    assert {str(folder / name) for name in told["files"]} == {str(f) for f in folder.rglob("*") if f.is_file()}
    assert main(["init", str(tmp_path / "more")]) == Exit.DONE
    said = capsys.readouterr().out
    assert f"  cd {tmp_path / 'more'}\n" in said
    assert "  sagabus dev more.lending more.shelf more.members\nThen, from another terminal:\n" in said


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
        ("wheels", "--name my_wheels"),
    ],
)  # fmt: skip
def test_a_name_that_no_package_can_have_is_refused_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, cure: str
) -> None:
    assert main(["init", str(tmp_path / name)]) == Exit.USAGE
    assert cure in capsys.readouterr().err
    assert not (tmp_path / name).exists()
    assert main(["init", str(tmp_path / name), "--name", cure.removeprefix("--name ")]) == Exit.DONE


def test_a_place_that_has_no_sagabus_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (tmp_path, tmp_path / "missing", ROOT / "README.md"):
        assert main(["init", str(tmp_path / "books"), "--from", str(wrong)]) == Exit.REFUSED
        assert str(wrong) in (said := capsys.readouterr().err)
        assert "--from PATH" in said
    assert not (tmp_path / "books").exists()


@pytest.mark.parametrize(
    ("record", "place"),
    [
        (None, "no record of where it was installed from"),
        ({"url": "file:///no/such%20place", "dir_info": {}}, "/no/such place does not exist"),
    ],
)
def test_an_installation_that_nothing_is_known_of_asks_for_a_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, record: object, place: str
) -> None:
    """One from an index, or whose wheel was deleted."""
    _installed_from(record, monkeypatch)
    assert main(["init", str(tmp_path / "books")]) == Exit.REFUSED
    assert place in capsys.readouterr().err
    assert main(["init", str(tmp_path / "books"), "--from", str(ROOT)]) == Exit.DONE


def test_a_place_is_told_as_pip_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "my wheels" / "sagabus-7.8-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    git = {"url": "https://git.example/sagabus", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    for record, place in (
        ({"url": wheel.as_uri(), "archive_info": {}}, f"'{wheel}'"),
        (git, "git+https://git.example/sagabus@abc"),
        ({"url": "https://files.example/sagabus-7.8-py3-none-any.whl"}, "https://files.example/sagabus-7.8"),
    ):
        _installed_from(record, monkeypatch)
        assert main(["init", str(tmp_path / f"books_{record.keys() >= {'vcs_info'}}_{len(place)}")]) == Exit.DONE
        assert f"pip wheel --no-deps --wheel-dir wheels {place}" in capsys.readouterr().out
    assert source_at(str(wheel)).wheel == wheel.name
    assert source_at(str(ROOT)).version == version("sagabus")


def _installed_from(record: object, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return None if record is None else json.dumps(record)

    monkeypatch.setattr("sagabus.commands.init.source.distribution", lambda name: Installed())
