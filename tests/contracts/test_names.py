"""Names on the wire: made in one place, read in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import DeclarationError, MessageInvalid, names
from sagabus.contracts.names import CommandKind, RunId

ALPHABET = "ABCZabcz0189._~@:-"
saga_ids = st.text(ALPHABET, min_size=1, max_size=200) | st.sampled_from(
    [":", "::", "a:undo", "undo", "a:1", "a:r:1", "a:r:1:undo", "a:r:1:settle", "settle:1", "~@.-:"]
)
run_ids = st.text("0123456789abcdef", min_size=12, max_size=12) | st.sampled_from(["1", "undo", "settle", "a"])


@given(saga_ids, run_ids, st.integers(0, 999_999_999), st.sampled_from(CommandKind))
def test_s13_a_command_id_comes_back_whatever_the_saga_is_called(
    saga: str, run: str, step: int, kind: CommandKind
) -> None:
    made = names.command_id(saga, run, step, kind)
    assert names.parse_command_id(made) == (names.saga_id(saga), RunId(run), step, kind)


@given(saga_ids, saga_ids, run_ids, run_ids, st.integers(0, 99), st.integers(0, 99))
def test_s13_two_runs_never_share_a_command_id(
    saga: str, other: str, run: str, another: str, step: int, next: int
) -> None:
    same = (saga, run, step) == (other, another, next)
    assert (names.command_id(saga, run, step) == names.command_id(other, another, next)) == same


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:b", "a:b:", "a:b:c", "a::1", ":b:1", "a:b:-1", "a:b:1.5", "a:b:²", "a:b:1:redo",
             "a:b:1234567890", "undo", "a:undo", "::undo"],
)  # fmt: skip
def test_an_id_that_no_coordinator_wrote_is_refused(text: str) -> None:
    with pytest.raises(MessageInvalid, match="is not the id of a command of ours") as caught:
        names.parse_command_id(text)
    assert caught.value.reason == "reply.causation"


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        saga, run, _, _ = names.parse_command_id(text)
    except MessageInvalid:
        return
    assert saga
    assert run


@pytest.mark.parametrize("text", ["a", "ORD-12345", "a" * 200, "A.b_c~d@e:f-9", ":", "..", "-"])
def test_a_saga_id(text: str) -> None:
    assert names.saga_id(text) == text


@pytest.mark.parametrize("text", ["...", ".a", "a.", "ORD-1"])
def test_a_new_saga_may_have_dots_in_its_id(text: str) -> None:
    assert names.new_saga_id(text) == text


@pytest.mark.parametrize("text", [".", "..", ""])
def test_no_new_saga_has_an_id_that_a_url_loses(text: str) -> None:
    with pytest.raises(MessageInvalid, match=r"saga id '\.*'") as caught:
        names.new_saga_id(text)
    assert caught.value.reason == "saga_id.invalid"


@pytest.mark.parametrize("text", ["", "a" * 201, "a b", "a/b", "é", "a\n", "\n", "a\0", "a,b", "٣"])
def test_what_is_no_saga_id(text: str) -> None:
    with pytest.raises(MessageInvalid, match="give 1 to 200 characters of") as caught:
        names.saga_id(text)
    assert caught.value.reason == "saga_id.invalid"
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("text", ["stock", "s", "a-b_c9", "a" * 100])
def test_a_service_and_what_belongs_to_it(text: str) -> None:
    assert names.service_name(text) == text == names.local_name(text, "activity")
    assert names.commands_topic(text) == f"{text}.commands"
    assert names.service_events_topic(text) == f"{text}.events"
    assert names.service_schema(text) == f"sagabus_{text}"


@pytest.mark.parametrize("text", ["", "Stock", "9a", "a.b", "a b", "-a", "_a", "a" * 101, "stock\n", "é"])
def test_what_is_no_name_of_a_service(text: str) -> None:
    with pytest.raises(DeclarationError, match="service name"):
        names.service_name(text)
    with pytest.raises(DeclarationError, match="activity name"):
        names.local_name(text, "activity")


def test_our_own_name_is_taken() -> None:
    with pytest.raises(DeclarationError, match="'sagabus', the coordinator's own name; choose another"):
        names.service_name("sagabus")
    assert names.local_name("sagabus", "saga") == "sagabus", "a saga may be called that"


@pytest.mark.parametrize("text", ["payment.confirmed", "A", "a" * 200, "a-b_c.9"])
def test_an_event_of_somebody_else(text: str) -> None:
    assert names.event_name(text) == text


@pytest.mark.parametrize("text", ["", ".a", "9", "a b", "a" * 201, "a\n"])
def test_what_is_no_event_name(text: str) -> None:
    with pytest.raises(DeclarationError, match="event name"):
        names.event_name(text)


def test_the_topics_of_a_namespace() -> None:
    assert names.requests_topic("shop") == "shop.requests"
    assert names.events_topic("shop") == "shop.events"
    assert names.dead_letters_topic("shop") == "shop.dead-letters"
    assert names.replies_topic("shop", "stock") == "shop.replies.stock"
    assert names.reply_id("a:r:1", 2) == "a:r:1:2:reply"


@pytest.mark.parametrize(
    ("topic", "service"),
    [
        ("shop.replies.stock", "stock"), ("shop.replies.sagabus", "sagabus"), ("shop.requests", None),
        ("shopXreplies.stock", None), ("myshop.replies.stock", None),
    ],
)  # fmt: skip
def test_who_answers_on_a_topic(topic: str, service: str | None) -> None:
    assert names.replying_service("shop", topic) == service
