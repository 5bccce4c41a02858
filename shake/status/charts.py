"""The charts of the page: points, scale and words, so that the browser only draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shake.status.figures import duration, percent, short, size, utc
from shake.status.history import History, Point

Value = Callable[[Point], float | None]


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure over time.

    ``limit`` is a second line that the first one is to stay below. ``steps`` are values that make a
    good end of the scale, beside 1, 2 and 5 with zeros. ``always``: it is shown if all is 0, too.
    """

    title: str
    value: Value
    text: Callable[[float], str]
    limit: Value | None = None
    limit_name: str = ""
    least_scale: float = 10.0
    steps: Sequence[float] = ()
    always: bool = True


def _rate(name: str) -> Value:
    return lambda point: float(getattr(point, name)) / point.seconds


_DURATIONS = (10, 20, 60, 120, 600, 1200, 3600, 7200, 6 * 3600, 12 * 3600, 24 * 3600, 48 * 3600)

CHARTS = (
    Chart("Written", _rate("bytes"), lambda n: f"{size(n)}/s", least_scale=1000.0, always=False),
    Chart(
        "Read units",
        _rate("units"),
        lambda n: f"{short(n)}/s",
        lambda point: point.budget,
        "budget",
        always=False,
    ),
    Chart("Throttled requests", lambda point: point.throttled, percent, least_scale=0.01),
    Chart("Writes", _rate("writes"), lambda n: f"{short(n)}/s"),
    Chart("Lag", lambda point: point.lag, duration, least_scale=10.0, steps=_DURATIONS),
)


def charts(history: History) -> dict[str, Any]:
    """What ``/charts`` gives: for each chart its points, all lines scaled to 0..1.

    ``texts`` are the words of each point. ``times`` are its clock times. A chart that has no value
    at all is left out, so no lag is shown before changes are applied.
    """
    points = history.points
    span = duration(sum(point.seconds for point in points))
    drawn = ((chart, [chart.value(point) for point in points]) for chart in CHARTS)
    return {
        "span": span,
        "times": [f"{utc(point.time)[11:19]} UTC" for point in points],
        "charts": [
            _drawn(chart, points, values, span)
            for chart, values in drawn
            if any(value is not None and (chart.always or value > 0) for value in values)
        ],
    }


def _drawn(
    chart: Chart, points: Sequence[Point], values: Sequence[float | None], span: str
) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    limits = [chart.limit(point) for point in points] if chart.limit else []
    last_limit = limits[-1] if limits else None
    top = _top(chart, max(known))
    # A limit that is far above what is used would press the line to the ground.
    if last_limit is not None and last_limit <= 3 * top:
        top = _top(chart, max(top, last_limit))
    now, most = chart.text(known[-1]), chart.text(max(known))
    of = f" of {chart.text(last_limit)} {chart.limit_name}" if last_limit is not None else ""
    return {
        "title": chart.title,
        "now": now + of,
        "label": f"{chart.title} over the last {span}: now {now}{of}, at most {most}",
        "top": chart.text(top),
        "middle": chart.text(top / 2),
        "line": [None if value is None else round(value / top, 4) for value in values],
        "limit": [None if one is None or one > top else round(one / top, 4) for one in limits],
        "texts": ["-" if value is None else chart.text(value) for value in values],
    }


def _top(chart: Chart, value: float) -> float:
    """A round number that is not below the value."""
    value = max(value, chart.least_scale)
    if chart.steps and value <= chart.steps[-1]:
        return next(step for step in chart.steps if step >= value)
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)
