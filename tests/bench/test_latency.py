"""Fixed rates, and what `python -m bench.latency` says."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.bare import yardstick
from bench.figures import distribution
from bench.fixed_rate import moments
from bench.latency import table
from bench.product import WIRE
from bench.wire import Wire


@given(st.floats(0.1, 10_000), st.floats(0, 1e6))
def test_sagas_are_due_evenly(rate: float, begin: float) -> None:
    due = list(islice(moments(rate, begin), 50))
    assert due[0] == begin
    assert due[-1] - begin == pytest.approx(49 / rate, abs=1e-6)
    assert due == sorted(due)


class Record:
    def __init__(self, type: bytes) -> None:
        self.headers: Any = (("ce_id", b"1"), ("ce_type", type))


@pytest.mark.parametrize("wire", [WIRE, yardstick.WIRE])
def test_a_wire_knows_the_end_of_a_saga(wire: Wire) -> None:
    assert wire.ends(Record(wire.completed))
    assert not wire.ends(Record(b"other"))
    assert wire.request(7)[0] == b"ORD-7"


def test_the_table_has_a_line_for_each_load() -> None:
    one = distribution([0.05])
    figures = {
        "alone": {"product": one, "bare": one},
        "rates": [{"share": 0.5, "sagas_per_s": 400, "latency_ms": one}],
        "bare_rates": [{"share": 0.5, "sagas_per_s": 400, "latency_ms": one}],
        "idle_cpu_ms_per_s": {"kafka": 10.0, "all": 20.0},
    }
    lines = table(figures).splitlines()
    assert [line[:24].strip() for line in lines[1:5]] == [
        "alone, bare", "alone, product", "50% of peak, 400/s", "bare at 400/s",
    ]  # fmt: skip
    assert lines[-1] == "idle, ms of processor time a second: kafka 10.0, all 20.0"
