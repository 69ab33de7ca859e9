"""Completion: bash is run with what the script offers; the other shells' scripts name every command and option."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagabus.commands.completion import SHELLS
from sagabus.commands.completion.grammar import Argument, Command, Value, grammar
from sagabus.commands.completion.scripts import SCRIPTS, script
from sagabus.commands.main import main, whole_parser
from sagabus.commands.saga_arguments import STATUSES
from sagabus.commands.subcommand import Exit

PROGRAM = """
source "$1"
while IFS= read -r line; do
    IFS=" " read -ra COMP_WORDS <<< "$line"
    [[ $line == *" " ]] && COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _sagabus
    echo "${COMPREPLY[*]}"
done
"""

OFFERED = {
    "sagabus sh": "show",
    "sagabus dead-letters re": "replay",
    "sagabus dead-letters list --rea": "--reason-code",
    "sagabus show ORD-1 --h": "--help --history",
    "sagabus show list --hi": "--history",
    "sagabus list --status comp": "compensating completed compensated",
    "sagabus list --status = comp": "compensating completed compensated",
    "sagabus list --status running --sta": "--status --started-before",
    "sagabus start shop --id ": "",
    "sagabus start shop --input ord": "order.json orders",
    "sagabus health ord": "order.json orders",
    "sagabus init ": "orders",
    "sagabus dev --folder o": "orders",
    "sagabus completion ": "bash zsh fish",
    "sagabus --v": "--version",
    "sagabus nothing --x": "",
}
"""The line up to the cursor, and what is offered there."""


@pytest.fixture(scope="module")
def commands() -> list[Command]:
    return [*grammar(whole_parser())]


def test_bash_offers_what_can_stand_there(tmp_path: Path) -> None:
    file = tmp_path / "sagabus.bash"
    file.write_text(script("bash", whole_parser()))
    (tmp_path / "order.json").touch()
    (tmp_path / "orders").mkdir()
    done = subprocess.run(
        ["bash", "--norc", "-c", PROGRAM, "bash", str(file)], input="".join(f"{line}\n" for line in OFFERED),
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert dict(zip(OFFERED, done.stdout.splitlines(), strict=True)) == OFFERED
    assert done.stderr == ""


def test_bash_offers_each_command_and_each_option(commands: list[Command], tmp_path: Path) -> None:
    file = tmp_path / "sagabus.bash"
    file.write_text(script("bash", whole_parser()))
    lines = [" ".join(["sagabus", *one.path, "-"]) for one in commands]
    done = subprocess.run(
        ["bash", "--norc", "-c", PROGRAM, "bash", str(file)], input="".join(f"{line}\n" for line in lines),
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    offered = [line.split() for line in done.stdout.splitlines()]
    assert offered == [[name for option in one.options for name in option.names] for one in commands]


def test_the_grammar_is_what_the_parsers_read(commands: list[Command]) -> None:
    by_path = {tuple(one.path): one for one in commands}
    assert ("dead-letters", "replay") in by_path
    found = {name: option for option in by_path["list",].options for name in option.names}
    assert found["--status"].value == [*STATUSES]
    assert found["--json"].value is None
    assert found["--limit"].help == "at most so many, the latest first (50)"
    assert by_path["dev",].places == [Argument([], "where sagas and participants are defined", Value.ANY, True)]


def names(commands: list[Command]) -> Iterator[str]:
    for one in commands:
        yield from (name for name, _ in one.commands)
        yield from (name.lstrip("-") for option in one.options for name in option.names)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_has_every_word(shell: str, commands: list[Command], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == Exit.DONE
    said = capsys.readouterr().out
    assert [name for name in names(commands) if name not in said] == []
    assert f"Made by `sagabus completion {shell}`" in said


def test_each_shell_that_can_be_named_has_a_script() -> None:
    assert [*SCRIPTS] == [*SHELLS]


@pytest.mark.parametrize("shell", [one for one in SHELLS if shutil.which(one)])
def test_a_shell_that_is_here_reads_its_script(shell: str, tmp_path: Path) -> None:
    file = tmp_path / "script"
    file.write_text(script(shell, whole_parser()))
    done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
