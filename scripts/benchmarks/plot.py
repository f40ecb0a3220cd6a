"""The curves as one SVG: what is paid for throughput and latency, and that a payment's cost stays what it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from benchmarks.curves import Curve, Point
from benchmarks.limits import Limits

_SVG: Final = "http://www.w3.org/2000/svg"
_WIDTH, _HEIGHT = 640, 400
_ACROSS: Final = 2
_ROOM: Final = 1.2
_STYLE: Final = Style(
    background="white", plot_background="white", guide_stroke_color="#cccccc", major_guide_stroke_color="#cccccc",
    colors=("#1f5fa8", "#c8501e"), font_family="sans-serif", title_font_size=17, label_font_size=12,
    major_label_font_size=12, legend_font_size=13,
)  # fmt: skip

Series = tuple[str, Callable[[Point], float]]
_THROUGHPUT: Final[list[Series]] = [("payments a second", lambda point: point.payments_per_s)]
_LATENCY: Final[list[Series]] = [
    ("median, ms", lambda point: point.p50_ms), ("99th percentile, ms", lambda point: point.p99_ms),
]  # fmt: skip
_COST: Final[list[Series]] = [("CPU of both nodes for a payment, us", lambda point: point.cpu_us)]

_CHARTS: Final = (
    ("concurrency", "Throughput against concurrency", _THROUGHPUT, True),
    ("concurrency", "Latency against concurrency", _LATENCY, True),
    ("batch", "Throughput against batch size", _THROUGHPUT, True),
    ("batch", "Latency against batch size", _LATENCY, True),
    ("channels", "Cost against channels of the node", _COST, False),
    ("past", "Cost against past payments", _COST, False),
)
"""Curve, title, what is drawn of it, whether the height is logarithmic too (the width always is)."""


def draw(curves: Mapping[str, Curve], limits: Limits | None) -> str:
    """All charts whose curve was measured, side by side; throughput beside what one core can sign, if that is known."""
    signing = [] if limits is None else [("signatures a second by one core", lambda _: limits.sign_per_s)]
    charts = [
        _chart(curves[name], title, series + signing * (series is _THROUGHPUT), log)
        for name, title, series, log in _CHARTS
        if name in curves
    ]
    rows = -(-len(charts) // _ACROSS)
    ElementTree.register_namespace("", _SVG)
    whole = ElementTree.Element(f"{{{_SVG}}}svg", viewBox=f"0 0 {_ACROSS * _WIDTH} {rows * _HEIGHT}")
    for index, chart in enumerate(charts):
        row, column = divmod(index, _ACROSS)
        chart.attrib |= {
            "x": str(column * _WIDTH), "y": str(row * _HEIGHT), "width": str(_WIDTH), "height": str(_HEIGHT),
        }  # fmt: skip
        whole.append(chart)
    return ElementTree.tostring(whole, "unicode") + "\n"


def _chart(curve: Curve, title: str, series: list[Series], logarithmic: bool) -> ElementTree.Element:
    chart = pygal.Line(
        style=_STYLE, width=_WIDTH, height=_HEIGHT, js=(), title=title, x_title=curve.x, legend_at_bottom=True,
        logarithmic=logarithmic, value_formatter=lambda value: f"{value:,.6g}", truncate_legend=-1, dots_size=3,
    )  # fmt: skip
    chart.uuid = title.lower().replace(" ", "-")  # it stands in the styles; a random one would change at every run
    chart.x_labels = [_short(point.x) for point in curve.points]
    values = [[pick(point) for point in curve.points] for _, pick in series]
    if logarithmic:
        chart.y_labels = _steps(min(map(min, values)), max(map(max, values)))
    else:
        chart.range = (0, _ROOM * max(map(max, values)))
    for (name, _), row in zip(series, values, strict=True):
        chart.add(name, row)
    return _without_scripts(ElementTree.fromstring(chart.render()))


def _without_scripts(chart: ElementTree.Element) -> ElementTree.Element:
    for parent in list(chart.iter()):
        for script in parent.findall(f"{{{_SVG}}}script"):
            parent.remove(script)
    return chart


def _steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, 20 and so on, from the last that is not above `low` to the first that is not below `high`."""
    first = math.floor(math.log10(low))
    every = [step * 10.0**power for power in range(first, math.ceil(math.log10(high)) + 1) for step in (1, 2, 5)]
    begin = max(index for index, step in enumerate(every) if step <= low)
    end = min(index for index, step in enumerate(every) if step >= high)
    return every[begin : end + 1]


def _short(count: float) -> str:
    """1024 is itself; 1000 is 1k, 10000000 is 10M, to three digits."""
    if count < 10_000 and count % 1000:
        return f"{count:g}"
    for size, sign in ((1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:.3g}{sign}"
    return f"{count:.3g}"
