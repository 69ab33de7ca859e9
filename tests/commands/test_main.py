"""The command line: its words, its exit codes, one message for each error."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import pytest

import sagabus.client.coordinator_api
import sagabus.coordinator.http
import sagabus.messaging.embedded.embedded_kafka
import sagabus.messaging.embedded.embedded_postgres
import sagabus.messaging.service.prerequisites
from sagabus.commands import main as command_line
from sagabus.commands.main import EXAMPLES, SUBCOMMANDS, main, parser
from sagabus.commands.subcommand import Exit, Failed, Subcommand
from sagabus.contracts.errors import SagabusError
from sagabus.messaging.settings import SettingsError


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--help"])
    assert leaving.value.code == 0
    return capsys.readouterr().out


def commands_of(one: Subcommand) -> Iterator[list[str]]:
    for line in one.examples:
        words = shlex.split(line)
        yield words[next(i for i, word in enumerate(words) if "=" not in word) :]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_each_command_explains_itself_with_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys, name)
    assert f"usage: sagabus {name}" in text
    assert "examples:\n  " in text
    one = parser([name]).parse_args(_minimal(name)).subcommand
    assert one.about.endswith(".")
    for program, *words in commands_of(one):
        assert program == "sagabus"
        assert parser(words).parse_args(words).subcommand.name == name


def _minimal(name: str) -> list[str]:
    arguments = {
        "start": ["x", "--id", "x", "--input", "{}"],
        "show": ["x"],
        "event": ["x", "y"],
        "cancel": ["x"],
        "retry": ["x", "--step", "1", "--reason", "x"],
        "skip": ["x", "--step", "1", "--reason", "x"],
        "complete": ["x", "--step", "1", "--reason", "x"],
        "acknowledge": ["x", "--reason", "x"],
        "pause": ["x", "--reason", "x"],
        "resume": ["x", "--reason", "x"],
        "terminate": ["x", "--reason", "x"],
        "dead-letters": ["list"],
        "demo": [],
        "list": [],
        "migrate": [],
        "doctor": [],
        "health": [],
        "completion": ["bash"],
    }
    return [name, *arguments.get(name, ["module"])]


def test_the_list_of_commands_has_every_one_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    assert all(re.search(rf"^ +{name} ", text, re.MULTILINE) or f"    {name}\n" in text for name in SUBCOMMANDS)
    ways = "done|the|usage|unreachable|not|refused|faults|interrupted"
    shown = {int(number) for number in re.findall(rf"\b(\d+) (?:{ways})", text)}
    assert shown == {exit.value for exit in Exit} - {Exit.OUR_FAULT}
    for line in EXAMPLES:
        words = shlex.split(line)[1:]
        parser(words).parse_args(words)


def test_every_module_lists_what_the_command_line_names() -> None:
    for name in SUBCOMMANDS:
        assert parser([name]).parse_args(_minimal(name)).subcommand.name == name


@pytest.mark.parametrize("words", [[], ["odd"], ["start"], ["show", "x", "--odd"], ["list", "--status", "odd"]])
def test_what_is_not_understood_is_usage(words: list[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == Exit.USAGE


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], int]:
    """Runs the command line with a subcommand that does this."""

    def running(work: Callable[[], object]) -> int:
        async def run(_: Namespace) -> Exit:
            work()
            return Exit.DONE

        one = Subcommand(name="list", about="x.", examples={}, arguments=lambda _: None, run=run)
        monkeypatch.setattr(command_line, "_subcommand", lambda *_: one)
        return main(["list"])

    return running


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> object:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "exit"),
    [
        (SettingsError(["SAGABUS_KAFKA is not set"]), Exit.USAGE),
        (sagabus.messaging.service.prerequisites.NotReady("run `sagabus migrate`"), Exit.USAGE),
        (sagabus.client.coordinator_api.CoordinatorUnreachable("away"), Exit.UNREACHABLE),
        (sagabus.client.coordinator_api.NoSuchSaga("none", status=404, code="x"), Exit.NOT_FOUND),
        (sagabus.client.coordinator_api.CoordinatorRefused("no", status=400, code="x"), Exit.REFUSED),
        (Failed(Exit.WAITED, "too long"), Exit.WAITED),
        (SagabusError("no"), Exit.REFUSED),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
)
def test_an_error_is_one_message_and_an_exit_code(
    run: Callable[[Callable[[], object]], int], capsys: pytest.CaptureFixture[str], error: BaseException, exit: Exit
) -> None:
    assert run(raising(error)) == exit
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert str(error) in said


def test_what_nobody_foresaw_is_shown_whole(
    run: Callable[[Callable[[], object]], int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(ZeroDivisionError("oh"))) == Exit.OUR_FAULT
    assert "Traceback" in capsys.readouterr().err


def test_a_ctrl_c_while_modules_are_imported_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(given: Sequence[str]) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr("sagabus.commands.main.parser", interrupted)
    assert main(["list"]) == Exit.INTERRUPTED
    assert capsys.readouterr().err == ""
