"""Wrong usage: exit code 2, the usage of the command at hand, and what was perhaps meant."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit


def said(words: str, capsys: pytest.CaptureFixture[str], *, exit: int = Exit.USAGE) -> str:
    with pytest.raises(SystemExit) as leaving:
        main(words.split())
    assert leaving.value.code == exit
    written = capsys.readouterr()
    return written.out + written.err


@pytest.mark.parametrize(
    ("words", "usage", "answer"),
    [
        ("status ORD-1", "sagabus", "there is no command 'status'; did you mean `sagabus show`?"),
        ("ls", "sagabus", "there is no command 'ls'; did you mean `sagabus list`?"),
        ("frobnicate", "sagabus", "there is no command 'frobnicate': `sagabus --help` lists all"),
        ("help", "sagabus", "there is no command 'help'; did you mean `sagabus --help`?"),
        ("dead-letters rm 17", "sagabus dead-letters",
         "there is no command 'rm'; did you mean `sagabus dead-letters drop`?"),
        ("show ORD-1 --histroy", "sagabus show", "there is no option --histroy; did you mean --history?"),
        ("show ORD-1 --odd", "sagabus show", "there is no option --odd"),
        ("cancel ORD-1 --message=no", "sagabus cancel", "there is no option --message; did you mean --reason?"),
        ("dead-letters list --sevice x", "sagabus dead-letters list", "no option --sevice; did you mean --service?"),
        ("show ORD-1 ORD-2", "sagabus show", "unrecognized arguments: ORD-2"),
        ("list --status runing", "sagabus list", "did you mean running?"),
        ("completion fihs", "sagabus completion", "did you mean fish?"),
        ("complete ORD-1 --result 5", "sagabus complete", "there is no option --result; did you mean --output?"),
        ("finish ORD-1", "sagabus", "there is no command 'finish'; did you mean `sagabus complete`?"),
        ("--json show ORD-1", "sagabus", "--json stands after its command: sagabus show --json"),
        ("--verison", "sagabus", "there is no option --verison; did you mean --version?"),
    ],
)  # fmt: skip
def test_an_error_has_the_usage_at_hand_and_what_was_meant(
    words: str, usage: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(words, capsys)
    assert text.startswith(f"usage: {usage} [-h]")
    assert f"\n{usage}: error: " in text
    assert text.endswith(f"{answer}\n")


def test_a_misspelt_option_is_told_before_the_one_that_is_missed(capsys: pytest.CaptureFixture[str]) -> None:
    """Else its author reads that --input is required, and has written it."""
    text = said("start order_processing --id ORD-1 --inptu order.json", capsys)
    assert "there is no option --inptu; did you mean --input?" in text


def test_a_value_is_not_taken_for_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """A negative number, a lone dash; and an option may be written in part."""
    assert "no option -1" not in said("retry ORD-1 --step -1", capsys)
    assert "no option --event" not in said("event ORD-1 --data - --event", capsys)


def test_an_odd_word_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in said("show ORD-1 \x1b[2J", capsys)
    assert "\x1b" not in said("show ORD-1 --\x1b[2J", capsys)


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(option, capsys, exit=0) == f"sagabus {version('sagabus')}\n"
    assert said(f"{option} status", capsys, exit=0) == f"sagabus {version('sagabus')}\n"
