"""docs/participants-in-any-language.md names each header, code and topic of the wire, and its rules are the code's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from sagabus.contracts import names, replies
from sagabus.contracts.codec import MAX_DEPTH
from sagabus.contracts.commands import read_command
from sagabus.contracts.envelope import MAX_PAYLOAD, Message
from sagabus.contracts.errors import MessageInvalid
from sagabus.contracts.headers import LONGEST
from sagabus.contracts.names import CommandKind
from sagabus.contracts.replies import REPLY_TYPES, SHOWN, Failure, ReplyKind
from sagabus.contracts.retry import ACTIVITY_RETRY
from sagabus.contracts.words import MAX_WORDS
from sagabus.coordinator.core.saga.forward import LONGEST_PAUSE_MICROSECONDS
from sagabus.coordinator.shard.reading import read
from sagabus.messaging.publishing import kept_part
from sagabus.messaging.publishing.dead_letter import DeadLetters
from sagabus.messaging.setting_texts import DAY
from sagabus.messaging.settings import Settings
from sagabus.shop.contracts import payment
from tests.core.situations import given_up
from tests.core.wire import Read, as_read
from tests.docs import wire_page

PAGE: Final = (Path(__file__).parents[2] / "docs" / "participants-in-any-language.md").read_text()
DECISION: Final = next(
    (Path(__file__).parents[2] / "docs" / "decisions").glob("*-replies-that-do-not-fit.md")
).read_text()
NUMERALS: Final[dict[int | None, str]] = {5: "five"}
NEEDED: Final = {"ce_causationid", "ce_type", "ce_attempt"}
"""Headers of a reply."""

OPTIONAL: Final = {"ce_timeout", "ce_time", "ce_correlationid", "ce_causationid", "ce_specversion", "content-type",
                   "traceparent"}  # fmt: skip
"""Headers of a command that our own participant does without."""


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def named(text: str) -> set[str]:
    """What stands in the first column of its tables, as code."""
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def headers(*messages: Message) -> set[str]:
    return {name for message in messages for name, _ in message.headers}


def without(message: Message, *left_out: str, **instead: str) -> Read:
    """The message as it is read, without these headers, or with other values of them."""
    kept = [(name, value) for name, value in message.headers if name not in (*left_out, *instead)]
    changed = [(name, value.encode()) for name, value in instead.items()]
    return Read(message.topic, 0, 0, 0, None, message.value, [*kept, *changed])


def test_the_headers_of_a_command_are_named() -> None:
    all_kinds = headers(*map(wire_page.command, CommandKind)) | {"tracestate"}
    assert named(section("A command")) == all_kinds


def test_the_headers_of_a_reply_are_named() -> None:
    table = section("A reply").partition("| answer to |")[0]
    assert named(table) == headers(wire_page.reply()) | {"tracestate"}
    assert {name for name in named(table) if f"| `{name}` | needed |" in table} == NEEDED


def test_a_reply_needs_three_headers_and_no_other() -> None:
    message = wire_page.reply()
    whole = read(as_read(message), "sagabus")
    bare = read(without(message, *(headers(message) - NEEDED)), "sagabus")
    assert [getattr(bare, name) for name in ("kind", "step", "attempt", "payload")] == [
        getattr(whole, name) for name in ("kind", "step", "attempt", "payload")
    ]
    for name in NEEDED:
        with pytest.raises(MessageInvalid):
            read(without(message, name), "sagabus")


def test_of_a_command_the_logs_headers_may_be_left_unread() -> None:
    message = wire_page.command()
    assert read_command(without(message, *OPTIONAL)).id == read_command(as_read(message)).id


@pytest.mark.parametrize("kind", CommandKind)
def test_each_answer_of_the_table_is_taken_and_no_other(kind: CommandKind) -> None:
    rows = re.findall(r"^\| ([\w, ]+) \| ((?:`\w+`(?:, )?)+) \|", section("A reply"), re.MULTILINE)
    said = {reply for asked, answers in rows if kind in asked.split(", ") for reply in re.findall(r"`(\w+)`", answers)}
    taken = {reply for type, reply in REPLY_TYPES.items() if is_read(without(wire_page.reply(kind), ce_type=type))}
    assert said == (taken - {ReplyKind.REFUSED} if kind is CommandKind.SETTLE else taken)  # which counts as failed


def is_read(reply: Read) -> bool:
    try:
        read(reply, "sagabus")
    except MessageInvalid:
        return False
    return True


def test_the_types_of_replies_are_named() -> None:
    assert set(re.findall(r"`(sagabus\.reply\.\w+)`", PAGE)) == set(REPLY_TYPES)


def test_the_codes_of_failures_are_named() -> None:
    text = section("A reply").partition("### A failure")[2]
    assert dict(re.findall(r"^\| `(sagabus\.\w+)` \| (\w+) \|", text, re.MULTILINE)) == replies.OF_PARTICIPANTS


def test_the_topics_are_named() -> None:
    service, namespace = "<service>", "<namespace>"
    topics = {
        names.commands_topic(service), names.replies_topic(namespace, service), names.service_events_topic(service),
        names.requests_topic(namespace), names.dead_letters_topic(namespace),
    }  # fmt: skip
    assert named(section("Topics")) == topics


def test_the_headers_of_a_dead_letter_are_named() -> None:
    letters = DeadLetters(topic="sagabus.dead-letters", by="payment")
    large = Read("payment.commands", 0, 0, 0, b"k", b" " * (kept_part.KEPT + 1), [])
    written = headers(
        *(letters.message(one, reason="r", message="m", at=0) for one in (large, without(wire_page.command())))
    )
    cut = {f"{kept_part.CUT}{part}" for part in ("key", "value", "headers")}
    assert named(section("What is no command")) == {name for name in written if name.startswith("x-dlt-")} | cut


def test_the_numbers_are_the_codes() -> None:
    assert f"{MAX_PAYLOAD // 1024} KiB" in PAGE
    assert f"nested at most {MAX_DEPTH} deep" in PAGE
    assert f"at most {LONGEST} characters" in PAGE.lower()
    assert f"{NUMERALS[ACTIVITY_RETRY.attempts]} failures (the default of the contract)" in " ".join(PAGE.split())
    assert f"`resend_after` of the contract, {payment.resend_after:g} s by default" in PAGE
    assert f"Our kit keeps them for {Settings.model_fields['retention_inbox'].default / DAY:g} days" in PAGE
    assert f"At most {LONGEST_PAUSE_MICROSECONDS // 86_400_000_000} days" in PAGE
    assert f"{names.CODES.partition(',')[0]}." in PAGE
    assert f"More than {MAX_WORDS:,} characters are cut" in PAGE
    assert f"the first\n  {SHOWN} bytes of what came" in DECISION
    fields = Settings.model_fields
    assert f"with `SAGABUS_PARTITIONS` partitions ({fields['partitions'].default})" in " ".join(PAGE.split())
    assert f"({fields['retention_sagas'].default / DAY:g} days\nafter its end by default)" in PAGE
    assert f"Our kit's is `{names.service_schema('<service>')}`" in PAGE


def test_a_settle_bears_the_attempt_and_the_first_issue_of_its_step() -> None:
    drive = given_up()
    (settle,) = drive.last.commands
    step = next(sent for sent in drive.all.commands if sent.head.kind is CommandKind.DO)
    assert settle.head.kind is CommandKind.SETTLE
    assert (settle.head.attempt, settle.head.issued) == (step.head.attempt, step.head.issued)
    assert drive.now > settle.head.issued
    assert "On a settle it is the attempt of the step." in PAGE
    assert "On a settle: when its step was first sent." in PAGE


def test_the_fields_of_a_failure_are_named() -> None:
    assert named(section("A reply").partition("### A failure")[2].partition("These are the codes")[0]) == {
        *Failure.model_fields
    }
