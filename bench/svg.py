"""Charts as SVG text: horizontal bars, stacked or plain, and lines over a logarithmic axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 720
LEFT: Final = 150
RIGHT: Final = 90
TOP: Final = 46
ROW: Final = 30
BAR: Final = 18
LINES_HEIGHT: Final = 260
BOTTOM: Final = 40

COLORS: Final = ("#3b6fb6", "#e08a3c", "#5a9e6f", "#b65a8d", "#8a7f6d", "#c9b458")
INK: Final = "#222222"
FAINT: Final = "#d0d0d0"


class Bar(NamedTuple):
    """parts: one or several values, drawn one behind the other. note: what stands at its end."""

    label: str
    parts: Sequence[float]
    note: str


def bars(title: str, rows: Sequence[Bar], legend: Sequence[str] = ()) -> str:
    """A bar for each row; the longest has the whole width."""
    longest = max((sum(row.parts) for row in rows), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    body: list[str] = list(_legend(legend))
    for number, row in enumerate(rows):
        y, x = TOP + number * ROW, float(LEFT)
        body.append(_text(LEFT - 8, y + BAR - 4, row.label, anchor="end"))
        for part, color in zip(row.parts, COLORS, strict=False):
            body.append(f'<rect x="{x:.1f}" y="{y}" width="{part * scale:.1f}" height="{BAR}" fill="{color}"/>')
            x += part * scale
        body.append(_text(x + 6, y + BAR - 4, row.note))
    return _document(title, TOP + len(rows) * ROW + 8, body)


def lines(title: str, series: Mapping[str, Sequence[Sequence[float]]], x_name: str, y_name: str) -> str:
    """Each series is pairs of x, evenly spaced in the order of the first one, and y above 0, on a logarithmic axis."""
    values = [max(y, 0.1) for points in series.values() for _, y in points]
    if not values:
        return notice(title)
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    span = max(1, high - low)
    height, width = LINES_HEIGHT, WIDTH - LEFT - RIGHT

    def y_of(value: float) -> float:
        return TOP + height * (1 - (math.log10(max(value, 0.1)) - low) / span)

    marks = [x for x, _ in next(iter(series.values()))]
    places = {x: LEFT + width * number / max(1, len(marks) - 1) for number, x in enumerate(marks)}
    body: list[str] = list(_legend(list(series)))
    for power in range(low, low + span + 1):
        y = y_of(10.0**power)
        body.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + width}" y2="{y:.1f}" stroke="{FAINT}"/>')
        body.append(_text(LEFT - 8, y + 4, f"{10.0**power:g} {y_name}", anchor="end"))
    body += [_text(place, TOP + height + 18, f"{x:g}", anchor="middle") for x, place in places.items()]
    body.append(_text(LEFT + width + 20, TOP + height + 18, x_name))
    for color, points in zip(COLORS, series.values(), strict=False):
        path = " ".join(f"{places[x]:.1f},{y_of(y):.1f}" for x, y in points if x in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
    return _document(title, TOP + height + BOTTOM, body)


def notice(title: str) -> str:
    """What stands where nothing was measured yet."""
    return _document(title, TOP + ROW, [_text(16, TOP + 8, "not measured yet")])


def _legend(names: Sequence[str]) -> Iterator[str]:
    x = float(LEFT)
    for name, color in zip(names, COLORS, strict=False):
        yield f'<rect x="{x:.1f}" y="26" width="10" height="10" fill="{color}"/>'
        yield _text(x + 15, 35, name)
        x += 30 + 7.2 * len(name)


def _text(x: float, y: float, words: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'


def _document(title: str, height: int, body: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" role="img">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    shown = f'<text x="16" y="18" font-size="14" fill="{INK}">{escape(title)}</text>'
    return "\n".join([head, f"<title>{escape(title)}</title>", ground, shown, *body, "</svg>", ""])
