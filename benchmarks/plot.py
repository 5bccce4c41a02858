"""Draws charts as PNG files."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report import Chart

#: Lines that differ by this factor are readable only on a logarithmic scale.
_FAR = 30


def draw(chart: Chart, title: str, file: Path) -> None:
    """Raises ImportError where matplotlib, one of the ``dev`` extras, is not installed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel=chart.x, ylabel=chart.y)
    for name, points in chart.lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    heights = [y for points in chart.lines.values() for _, y in points]
    if max(heights) > _FAR * min(heights) > 0:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
