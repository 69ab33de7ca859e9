"""docs/performance.md: its tables and plots are made from bench/results.jsonl, by whatever the commands keep there."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import compare, plots, svg
from bench.figures import curve, distribution
from bench.load_run import COORDINATORS, KAFKA, PARTICIPANTS, POSTGRESQL, Run
from bench.page_tables import TABLES, grid
from bench.peers.__main__ import PRODUCT, summary
from bench.peers.measured import told
from bench.processor_time import milliseconds_each
from bench.program import command
from bench.recovery import Recovery
from bench.results import RESULTS, record
from bench.stage import Commits

SPENT = {COORDINATORS: 1.0, PARTICIPANTS: 0.5, KAFKA: 0.25, POSTGRESQL: 0.25}
A_RUN = Run(1_000, 2.0, SPENT, 2_048_000)
LATENCY = distribution([0.010, 0.020, 0.500])


def compared(**others: object) -> dict[str, Any]:
    rounds = [{compare.BARE: A_RUN, **dict.fromkeys(compare.MODES, A_RUN)}]
    return {**compare.summary(rounds), **others}


def lines() -> dict[str, dict[str, Any]]:
    """What each command keeps, made by its own code where that is at hand."""
    recovery = Recovery(800, 1.5, 2.25, 3.0, 0.04, 200).figures
    engine = {**A_RUN.figures, **{f"alone.{name}": value for name, value in LATENCY.items()}}
    full = {**A_RUN.figures, "memory_mib": 300}
    return {
        "compare": compared(),
        "latency": {
            "alone": {"bare": LATENCY, "product": LATENCY},
            "rates": [
                {"share": 0.5, "sagas_per_s": 400, "latency_ms": LATENCY, "curve_ms": curve([0.010, 0.020, 0.500])}
            ],
            "idle_cpu_ms_per_s": milliseconds_each(SPENT, 100),
        },
        "recovery": {"open": 100_000, "ways": {"static": recovery, "another": recovery}},
        "open_sagas": {
            "open": 1_000_000, "history_rows": 10_000_000, "database_mib": 9_000, "empty": full, "full": full,
            "takes": {"static": recovery},
        },
        "peers": {
            "requirements": {"dbos": "dbos==1"}, "missing": {"edda": "no network"},
            "engines": summary([{PRODUCT: dict(engine), "dbos": {**engine, "sagas_per_s": 50.0}}]),
        },
    }  # fmt: skip


def keep(name: str, figures: dict[str, Any], file: Path) -> None:
    """As a usual run does, but for what the figures say otherwise."""
    usual = {"command": f"python -m bench.{name} --sagas 7", **Commits().figures, "coordinators": 1}
    record(name, {**usual, **figures}, file)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    file = tmp_path / "results.jsonl"
    for name, figures in lines().items():
        keep(name, figures, file)
    return file


def test_the_page_and_its_plots_are_up_to_date() -> None:
    assert plots.PAGE.read_text() == plots.page(plots.PAGE.read_text()), f"outdated: run `{plots.COMMAND}`"
    for name, plot in plots.FIGURES.items():
        assert (plots.PLOTS / name).read_text() == plot(RESULTS), f"{name} is outdated: run `{plots.COMMAND}`"


def test_each_table_and_each_plot_has_its_place() -> None:
    text = plots.PAGE.read_text()
    assert sorted(found[0] for found in plots.PART.findall(text)) == sorted(TABLES)
    assert {name for name in plots.FIGURES if f"](performance/{name})" in text} == set(plots.FIGURES)
    assert {file.name for file in plots.PLOTS.iterdir()} == set(plots.FIGURES)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_shows_what_was_measured(results: Path, name: str) -> None:
    made = TABLES[name](results)
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert len(rows) >= 3
    assert {line.count("|") for line in rows} == {rows[0].count("|")}
    assert "Not measured yet" not in made


@pytest.mark.parametrize("name", [name for name in TABLES if name != "variants"])
def test_without_a_result_a_table_names_its_command(tmp_path: Path, name: str) -> None:
    assert TABLES[name](tmp_path / "none").startswith("Not measured yet: `python -m bench.")


def test_a_table_names_the_command_as_it_was_given(results: Path) -> None:
    told = ["--sagas", "7", "--json", "--results", "/dev/null", "--modes", "happy", "undo"]
    assert command("compare", told) == "python -m bench.compare --sagas 7 --modes happy undo"
    assert command("compare", ["--results=x", "--fsync"]) == "python -m bench.compare --fsync"
    assert TABLES["recovery"](results).startswith("`python -m bench.recovery --sagas 7`; commit ")


def test_the_latest_line_of_the_usual_run_counts(results: Path) -> None:
    keep("compare", compared(coordinators=2, bare={**A_RUN.figures, "sagas_per_s": 7.0}), results)
    assert "| bare | 500 |" in TABLES["compare"](results)
    assert "| two coordinators | 7 | 500 |" in TABLES["variants"](results)


def test_slow_commits_are_rows_of_their_own(results: Path) -> None:
    assert "commits of 1 ms" not in TABLES["latency"](results)
    usual = lines()["latency"]
    slow = {**usual, "alone": {"bare": LATENCY, "product": {**LATENCY, "p50": 77.7}}}
    keep("latency", {**slow, **Commits(fsync=True, delay_us=1_000).figures}, results)
    assert "| alone | 20.0 |" in TABLES["latency"](results)
    assert "| alone, commits of 1 ms or more | 77.7 |" in TABLES["latency"](results)


def test_what_a_core_carries_is_the_inverse_of_its_time(results: Path) -> None:
    assert "| coordinators | 1,000 |" in TABLES["sizing"](results)
    assert "| kafka | 4,000 |" in TABLES["sizing"](results)


@pytest.mark.parametrize("name", plots.FIGURES)
def test_a_plot_is_an_svg_with_and_without_results(results: Path, tmp_path: Path, name: str) -> None:
    full, empty = plots.FIGURES[name](results), plots.FIGURES[name](tmp_path / "none")
    for text in (full, empty):
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "not measured yet" in empty
    assert "not measured yet" not in full


def test_bars_are_as_long_as_their_values() -> None:
    root = ElementTree.fromstring(svg.bars("a < b", [svg.Bar("x", [1.0, 3.0], "4"), svg.Bar("y", [2.0], "2")]))
    drawn = [one.attrib for one in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    widths = [float(one["width"]) for one in drawn]
    assert float(drawn[1]["x"]) == pytest.approx(float(drawn[0]["x"]) + widths[0], abs=0.2), "behind the other"
    assert widths[1] == pytest.approx(3 * widths[0], abs=0.2)
    assert widths[2] == pytest.approx(2 * widths[0], abs=0.2)
    assert sum(widths[:2]) == pytest.approx(svg.WIDTH - svg.LEFT - svg.RIGHT, abs=0.2)


def test_a_line_rises_with_its_values() -> None:
    text = svg.lines("t", {"one": [(50, 10.0), (99, 100.0), (100, 1_000.0)]}, "%", "ms")
    (line,) = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}polyline")
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.2)
    assert heights[0] > heights[1]


def test_a_grid_is_a_table() -> None:
    assert grid(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_a_peer_tells_both_of_its_runs() -> None:
    assert told('ready\n{"together_s": 2.5}\n{"alone_s": [0.1, 0.2]}\n') == (2.5, [0.1, 0.2])
