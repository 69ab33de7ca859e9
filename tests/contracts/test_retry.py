"""The arithmetic of attempts."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagabus.contracts import DeclarationError, RetryPolicy, Service
from sagabus.contracts.activity import retry_of
from sagabus.contracts.retry import ACTIVITY_RETRY, UNDO_RETRY, as_microseconds, seconds
from tests.core.services import Job

finite = st.floats(0, 1e9)
policies = st.builds(
    RetryPolicy, first=finite, longest=finite, factor=st.floats(1, 1e9), jitter=st.floats(0, 1),
    attempts=st.none() | st.integers(1, 1_000), give_up_after=st.none() | finite,
)  # fmt: skip
chances = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 10**6), chances)
def test_a_pause_is_at_most_the_longest_with_its_jitter(policy: RetryPolicy, failures: int, luck: float) -> None:
    pause = policy.pause(failures, luck)
    assert 0 <= pause <= seconds(policy.longest) * (1 + policy.jitter) * 1_000_000 + 1


@given(policies, st.integers(1, 200))
def test_pauses_never_shrink(policy: RetryPolicy, failures: int) -> None:
    assert policy.pause(failures, 0.5) <= policy.pause(failures + 1, 0.5)


def test_the_pauses_of_the_defaults() -> None:
    assert [ACTIVITY_RETRY.pause(n, 0.5) / 1e6 for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert (ACTIVITY_RETRY.attempts, UNDO_RETRY.attempts) == (5, None)
    assert UNDO_RETRY.pause(100, 0.5) / 1e6 == 300


@pytest.mark.parametrize(("chance", "expected"), [(0, 8), (0.5, 10), (0.999999, 12)])
def test_jitter_goes_either_way(chance: float, expected: float) -> None:
    assert RetryPolicy(first=10).pause(1, chance) / 1e6 == pytest.approx(expected, rel=1e-3)


def test_pauses_that_no_float_holds_are_the_longest() -> None:
    assert RetryPolicy(first=1e300, factor=1e300, longest=60, jitter=0).pause(10**6, 0) == 60_000_000


def test_how_many_failures_and_how_long() -> None:
    policy = RetryPolicy(attempts=3, give_up_after=timedelta(minutes=1))
    assert [policy.allows(n, 0) for n in (0, 1, 2, 3, 4)] == [True, True, True, False, False]
    assert policy.allows(1, 59_999_999)
    assert not policy.allows(1, 60_000_000)
    assert RetryPolicy().allows(10**9, 10**18)
    assert RetryPolicy(give_up_after=math.inf).allows(1, 10**15)


@given(policies)
def test_an_undo_is_never_given_up(policy: RetryPolicy) -> None:
    endless = policy.without_end()
    assert endless.allows(10**9, 10**18)
    assert endless.pause(3, 0.5) == policy.pause(3, 0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": -1}, {"first": math.inf}, {"first": math.nan}, {"factor": 0.5}, {"factor": math.nan},
        {"factor": math.inf}, {"longest": -1}, {"longest": math.inf}, {"jitter": 1.5}, {"jitter": math.nan},
        {"attempts": 0}, {"first": timedelta(-1)},
    ],
)  # fmt: skip
def test_a_policy_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match=f"RetryPolicy: {next(iter(wrong))}="):
        RetryPolicy(**wrong)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(DeclarationError, match=r"first=-1: .*; factor=0: .*; attempts=0: "):
        RetryPolicy(first=-1, factor=0, attempts=0)


def test_call_beats_activity_beats_service() -> None:
    mine, theirs, its = RetryPolicy(attempts=1), RetryPolicy(attempts=2), RetryPolicy(attempts=3)
    plain, strict = Service("plain"), Service("strict", retry=its)
    assert retry_of(plain.activity("a", Job)) == ACTIVITY_RETRY
    assert retry_of(strict.activity("a", Job)) == its
    assert retry_of(strict.activity("b", Job, retry=theirs)) == theirs
    assert retry_of(strict.activity("c", Job, retry=theirs), mine) == mine


def test_of_a_compensation_only_the_pauses_count() -> None:
    service = Service("strict", retry=RetryPolicy(attempts=3, first=7))
    assert retry_of(Service("plain").compensation("undo", Job)) == UNDO_RETRY
    assert retry_of(service.compensation("undo", Job)) == RetryPolicy(attempts=None, first=7)
    other = service.compensation("other", Job, retry=RetryPolicy(attempts=1, give_up_after=1))
    assert retry_of(other).allows(100, 10**12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1_000_000), (0.5, 500_000), (timedelta(milliseconds=1), 1_000), (1e-7, 0), (-1, -1_000_000), (0, 0)],
)
def test_seconds_as_microseconds(value: float, expected: int) -> None:
    assert as_microseconds(value) == expected


@pytest.mark.parametrize("value", [math.inf, 1e300, 1e12])
def test_never_fits_a_database(value: float) -> None:
    assert as_microseconds(value) == 1_000 * 365 * 86_400 * 1_000_000


def test_nan_is_no_time() -> None:
    with pytest.raises(ValueError, match="NaN"):
        as_microseconds(math.nan)


@pytest.mark.parametrize("pause", [0, -1, math.nan, timedelta(0)])
def test_copies_want_a_pause_between_them(pause: Any) -> None:
    with pytest.raises(DeclarationError, match=r"hot: resend_after=.*: give more than 0 seconds"):
        Service("hot", resend_after=pause)
    with pytest.raises(DeclarationError, match=r"cool\.a: resend_after="):
        Service("cool").activity("a", Job, resend_after=pause)
