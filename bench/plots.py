"""Writes docs/performance.md anew from bench/results.jsonl: its tables and its plots. python -m bench.plots

A table stands between `<!-- measured: NAME -->` and `<!-- end -->`; the plots are in docs/performance/. Of each command
the latest line counts. tests/bench/test_performance_page.py compares the page with the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench import svg
from bench.page_tables import KINDS, MODES, ONE, TABLES
from bench.processor_time import ALL
from bench.results import RESULTS, latest

PAGE: Final = Path(__file__).parents[1] / "docs" / "performance.md"
PLOTS: Final = PAGE.with_suffix("")
COMMAND: Final = "python -m bench.plots"
PART: Final = re.compile(r"(?<=<!-- measured: )(\w+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)


def rates_plot(results: Path) -> str:
    row = latest("compare", results, **ONE) or {}
    rows = [
        svg.Bar(mode, [row[mode]["sagas_per_s"]], f"{row[mode]['sagas_per_s']:.0f}") for mode in MODES if mode in row
    ]
    return svg.bars("Sagas a second, all sent at once", rows) if rows else svg.notice("Sagas a second")


def processor_time_plot(results: Path) -> str:
    row = latest("compare", results, **ONE) or {}
    rows = [
        svg.Bar(mode, [row[mode][f"cpu_ms.{kind}"] for kind in KINDS], f"{row[mode][f'cpu_ms.{ALL}']:.2f} ms")
        for mode in MODES if mode in row
    ]  # fmt: skip
    title = "Processor time a saga"
    return svg.bars(title, rows, KINDS) if rows else svg.notice(title)


def latency_plot(results: Path) -> str:
    row = latest("latency", results, **ONE) or {"rates": []}
    series = {f"{load['share']:.0%} of the peak": load["curve_ms"] for load in row["rates"]}
    return svg.lines("At a fixed rate: so many percent of the sagas take at most …", series, "%", "ms")


def peers_plot(results: Path) -> str:
    row = latest("peers", results) or {"engines": {}}
    rows = [svg.Bar(name, [of["sagas_per_s"]], f"{of['sagas_per_s']:.0f}") for name, of in row["engines"].items()]
    title = "Sagas a second beside other engines"
    return svg.bars(title, rows) if rows else svg.notice(title)


FIGURES: Final[Mapping[str, Callable[[Path], str]]] = {
    "rates.svg": rates_plot, "processor-time.svg": processor_time_plot, "latency.svg": latency_plot,
    "peers.svg": peers_plot,
}  # fmt: skip


def page(text: str, results: Path = RESULTS) -> str:
    """The page as it should be."""
    return PART.sub(lambda found: f"{found[1]}{found[2]}{TABLES[found[1]](results)}", text)


def main() -> None:
    PLOTS.mkdir(exist_ok=True)
    PAGE.write_text(page(PAGE.read_text()))
    for name, plot in FIGURES.items():
        (PLOTS / name).write_text(plot(RESULTS))


if __name__ == "__main__":
    main()
