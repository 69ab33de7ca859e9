"""The verbs against `sagabus dev`: words for people, JSON and exit codes for scripts, and history agrees with both."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagabus.commands import verb_sheets, verbs
from sagabus.commands.main import main
from sagabus.commands.subcommand import Exit
from sagabus.coordinator.core.saga.termination import Outstanding
from sagabus.coordinator.http.verbs import VERBS
from tests.commands.test_sagas import answer, expense, order, running
from tests.support.conditions import blocking_until
from tests.support.dev_host import DevHost
from tests.support.folders import data_folder

MODULES = ("order_processing", "expense_approval", "inventory", "payment", "approvals")
"""Without shipping: an order stands at its third step."""


@pytest.fixture(scope="module")
def host() -> Iterator[DevHost]:
    with data_folder() as folder, DevHost(folder, *(f"sagabus.shop.{name}" for name in MODULES)) as host:
        yield host


@pytest.fixture(autouse=True)
def in_folder(host: DevHost, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(host.folder)
    return host.folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def standing_order(capsys: pytest.CaptureFixture[str], id: str) -> None:
    """An order that has two steps behind it, and waits for shipping."""
    answer(capsys, "start", "order_processing", "--id", id, "--input", order(id))

    def at_shipping() -> bool:
        if main(["show", id, "--json"]) != Exit.DONE:
            capsys.readouterr()
            return False
        steps = json.loads(capsys.readouterr().out)["steps"]
        return [step["status"] for step in steps] == ["completed", "completed", "sent"]

    blocking_until(at_shipping)


def history(capsys: pytest.CaptureFixture[str], id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = answer(capsys, "show", id, "--history")["history"]
    return rows


def test_a_cancel_is_applied_and_told_with_what_is_to_be_undone(capsys: pytest.CaptureFixture[str]) -> None:
    standing_order(capsys, "ORD-1")
    code, out, err = said(capsys, "cancel", "ORD-1", "--reason", "called off", "--actor", "ann")
    assert (code, err) == (Exit.DONE, "")
    assert out == "ORD-1 is being undone: 2 steps to undo, 1 to be asked about first\n"
    (row,) = [row for row in history(capsys, "ORD-1") if row["kind"] == "cancel"]
    assert (row["name"], row["payload"]) == ("ann", "called off")
    code, out, err = said(capsys, "cancel", "ORD-1", "--reason", "again", "--actor", "bob")
    assert (code, out) == (Exit.REFUSED, "")
    assert err == "sagabus: ORD-1: cancel refused: saga ORD-1 is being undone already (cancel.rejected)\n"
    (row,) = [row for row in history(capsys, "ORD-1") if row["name"] == "refused"]
    assert (row["payload"]["verb"], row["payload"]["actor"], row["payload"]["reason"]) == ("cancel", "bob", "again")


def test_a_skip_lets_the_undo_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    standing_order(capsys, "ORD-2")
    assert said(capsys, "cancel", "ORD-2")[0] == Exit.DONE
    told = answer(capsys, "skip", "ORD-2", "--step", "3", "--reason", "nothing was sent")
    assert (told["request"], told["outcome"], told["error"]) == ("skip", "applied", None)
    blocking_until(lambda: answer(capsys, "show", "ORD-2")["status"] == "cancelled")
    (row,) = [row for row in history(capsys, "ORD-2") if row["kind"] == "operator"]
    assert (row["ref"], row["payload"]["actor"]) == (told["message_id"], getpass.getuser())


@pytest.mark.parametrize("words", [("retry", "--step", "1"), ("skip", "--step", "7"), ("acknowledge",)])
def test_what_changes_nothing_is_refused_with_its_reason(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    id = f"EXP-20{['retry', 'skip', 'acknowledge'].index(words[0])}"
    answer(capsys, "start", "expense_approval", "--id", id, "--input", expense(id))
    running(capsys, id)
    asked = [words[0], id, *words[1:], "--reason", "let us see"]
    code, out, err = said(capsys, *asked)
    assert (code, out) == (Exit.REFUSED, "")
    assert err.startswith(f"sagabus: {id}: {words[0]} refused: ")
    assert err.endswith("(request.no_use)\n")
    code, out, _ = said(capsys, *asked, "--json")
    told = json.loads(out)
    assert (code, told["outcome"], told["error"]["code"]) == (Exit.REFUSED, "refused", "request.no_use")
    letters = answer(capsys, "dead-letters", "list", "--saga", id)["letters"]
    assert letters == [], "a refusal is no dead letter"
    assert len([row for row in history(capsys, id) if row["name"] == "refused"]) == 2


@pytest.mark.parametrize("verb", ["cancel", "retry", "skip", "acknowledge"])
def test_a_closed_saga_refuses(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    id = f"EXP-21{list(VERBS).index(verb)}"
    answer(capsys, "start", "expense_approval", "--id", id, "--input", expense(id))
    running(capsys, id)
    assert said(capsys, "cancel", id, "--until-closed")[0] == Exit.DONE
    step = ["--step", "1"] if verb in ("retry", "skip") else []
    code, _, err = said(capsys, verb, id, *step, "--reason", "x")
    assert code == Exit.REFUSED
    if verb != "acknowledge":
        assert f"saga {id} has ended (cancelled)" in err


@pytest.mark.parametrize("verb", VERBS)
def test_an_unknown_saga_is_not_found(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    step = ["--step", "1"] if verb in ("retry", "skip", "complete") else []
    code, _, err = said(capsys, verb, "NOBODY", *step, "--reason", "x")
    assert (code, err) == (
        Exit.NOT_FOUND,
        "sagabus: no saga NOBODY: it has not begun yet, was never started, or was deleted by retention; ask again in a "
        "moment; `sagabus dead-letters list --saga NOBODY` has a start that was rejected\n",
    )


def test_without_a_wait_it_is_only_sent(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "start", "expense_approval", "--id", "EXP-220", "--input", expense("EXP-220"))
    running(capsys, "EXP-220")
    code, out, _ = said(capsys, "cancel", "EXP-220", "--wait", "0")
    assert (code, out.startswith("EXP-220: cancel is sent (request ")) == (Exit.DONE, True)
    blocking_until(lambda: answer(capsys, "show", "EXP-220")["status"] == "cancelled")


def test_a_mistyped_name_is_refused_unless_it_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["start", "expense_aproval", "--id", "EXP-221", "--input", expense("EXP-221")]
    code, _, err = said(capsys, *words)
    assert (code, "did you mean 'expense_approval'?" in err) == (Exit.REFUSED, True)
    assert err.endswith(". If its definition is yet to be deployed, add --allow-unknown\n")
    assert "?unknown" not in err
    assert said(capsys, "show", "EXP-221")[0] == Exit.NOT_FOUND
    assert said(capsys, *words, "--allow-unknown")[0] == Exit.DONE
    assert said(capsys, "show", "EXP-221")[0] == Exit.DONE
    code, out, _ = said(capsys, "retry", "EXP-221", "--step", "1", "--reason", "x", "--wait", "1")
    assert code == Exit.WAITED
    assert out.startswith("EXP-221: retry is kept, and decided upon when the saga's code can go on; ")


def test_one_that_nobody_has_decided_upon_says_how_to_look_again() -> None:
    view = {
        "id": "LOAN-1", "run": "r", "request": "cancel", "message_id": "req-1", "outcome": "unknown", "error": None,
        "waits_for": "the coordinator that owns shard 3 has not taken it in yet", "saga": None, "look_again": "/x",
    }  # fmt: skip
    assert verb_sheets.undecided(view, wait=5.0) == (
        "LOAN-1: cancel is sent, and not decided upon within 5 s: the coordinator that owns shard 3 has not taken it "
        "in yet; `sagabus show LOAN-1 --history` tells of it (request req-1)"
    )


def test_a_terminated_saga_is_told_with_what_it_leaves_behind(capsys: pytest.CaptureFixture[str]) -> None:
    standing_order(capsys, "ORD-240")
    code, out, err = said(capsys, "terminate", "ORD-240", "--reason", "undone by hand")
    assert (code, err) == (Exit.DONE, "")
    assert out == (
        "ORD-240 is terminated; undo by hand what is left behind: step 1 (inventory.reserve_inventory) is not undone; "
        "step 2 (payment.process_payment) is not undone; step 3 (shipping.ship_order) is not answered\n"
    )


def test_every_reason_why_a_step_is_left_behind_has_words() -> None:
    listed = [{"step": 1, "activity": "bank.pay", "outstanding": why} for why in Outstanding]
    saga = {"id": "LOAN-1", "error": {"outstanding": listed}}
    assert verb_sheets.terminated({"saga": saga}) == (
        "LOAN-1 is terminated; undo by hand what is left behind: step 1 (bank.pay) is not answered; "
        "step 1 (bank.pay) may have happened; step 1 (bank.pay) is not undone"
    )
    saga = {"id": "LOAN-1", "error": {"outstanding": listed * 4, "more": 7}}
    assert verb_sheets.terminated({"saga": saga}).endswith("; and 9 more: see `sagabus show LOAN-1 --history`")
    assert verb_sheets.terminated({"saga": {"id": "LOAN-1"}}) == "LOAN-1 is terminated; no step is left behind"


@pytest.mark.parametrize("verb", verbs.VERBS, ids=lambda one: one.name)
def test_every_verb_has_words_for_every_condition(verb: verbs.Verb) -> None:
    for status in ("running", "compensating", "completed", "cancelled", "terminated", None):
        for attention in (None, "look"):
            saga = {"id": "LOAN-1", "run": "r", "status": status, "paused": True, "attention": attention}
            told = verb.done({"saga": saga, "steps": [], "step": 1})
            assert "LOAN-1" in told
            assert told == told.strip()


def test_the_api_and_the_commands_have_the_same_verbs() -> None:
    assert {verb.name for verb in verbs.VERBS} == VERBS.keys()
