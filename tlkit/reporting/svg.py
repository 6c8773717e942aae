"""Small drawings as inline SVG: curves, reliability, scatter. No script, no font, no request."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 344, 214
LEFT, RIGHT, TOP, BOTTOM = 60, 12, 24, 38
"""Size of a drawing, and what is left around its axes, in pixels."""

COLOURS = ("#1f5fa8", "#c2510a", "#3b7d3b")
"""Told apart by the colour-blind, and in print by their dashes."""

DASHES = ("none", "5 3", "1 3")

TICKS = 4


@dataclass(frozen=True)
class Line:
    """A curve, or with `dots` single points; points that are no numbers are left out."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    dots: bool = False


@dataclass(frozen=True)
class Axis:
    """One axis: its name, whether it is logarithmic or runs from high to low, and its ends."""

    name: str
    log: bool = False
    falling: bool = False
    ends: tuple[float, float] | None = None

    def scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def span(self, values: Sequence[float]) -> tuple[float, float]:
        """Return the ends of the axis on its own scale."""
        own = [self.scaled(x) for x in self.ends or values if not self.log or x > 0] or [0.0, 1.0]
        low, high = min(own), max(own)
        if high - low < 1e-12:
            pad = abs(low) * 0.05 or 0.5
            return low - pad, high + pad
        return low, high

    def ticks(self, low: float, high: float) -> list[float]:
        """Return round numbers between the ends, on the axis's own scale."""
        if self.log and high - low >= 1:
            step = max(1, round((high - low) / TICKS))
            return [float(x) for x in range(math.ceil(low), math.floor(high) + 1, step)]
        raw = (high - low) / TICKS
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw * 0.999)
        first = math.ceil(low / step - 1e-9)
        return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]

    def text(self, tick: float) -> str:
        return f"{10**tick:.2g}" if self.log else f"{tick:.4g}"


def plot(lines: Sequence[Line], x: Axis, y: Axis, label: str, diagonal: bool = False) -> Markup:
    """Return a drawing of curves or points.

    Args:
        label: what it shows, for those who cannot see it.
        diagonal: draw the line of equality.
    """
    points = [_points(line, x, y) for line in lines]
    spans = [axis.span([p[i] for own in points for p in own]) for i, axis in enumerate((x, y))]

    def at(px: float, py: float) -> tuple[float, float]:
        return _place(x, px, spans[0], LEFT, WIDTH - RIGHT), _place(
            y, py, spans[1], HEIGHT - BOTTOM, TOP
        )

    body = [*_axis_x(x, spans[0]), *_axis_y(y, spans[1])]
    if diagonal:
        low = max(spans[0][0], spans[1][0])
        high = min(spans[0][1], spans[1][1])
        (x1, y1), (x2, y2) = at(low, low), at(high, high)
        body.append(f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" class="even"/>')
    for i, (line, own) in enumerate(zip(lines, points, strict=True)):
        body.append(_curve(line, [at(x.scaled(a), y.scaled(b)) for a, b in own], i))
    legend = [_legend(line.name, i) for i, line in enumerate(lines)] if len(lines) > 1 else []
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">'
        "<title>{label}</title>{body}</svg>"
    ).format(w=WIDTH, h=HEIGHT, label=label, body=Markup("").join(map(Markup, [*body, *legend])))


def _points(line: Line, x: Axis, y: Axis) -> list[tuple[float, float]]:
    pairs = zip(line.xs, line.ys, strict=True)
    return [
        (a, b)
        for a, b in pairs
        if math.isfinite(a) and math.isfinite(b) and (a > 0 or not x.log) and (b > 0 or not y.log)
    ]


def _place(axis: Axis, value: float, span: tuple[float, float], start: float, end: float) -> float:
    share = (value - span[0]) / (span[1] - span[0])
    return start + (end - start) * (1 - share if axis.falling else share)


def _axis_x(axis: Axis, span: tuple[float, float]) -> list[str]:
    found = []
    for tick in axis.ticks(*span):
        at = _place(axis, tick, span, LEFT, WIDTH - RIGHT)
        found.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" class="grid"/>')
        found.append(
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
            f"{axis.text(tick)}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    name = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
    return [*found, name.format(middle, HEIGHT - 6, axis.name)]


def _axis_y(axis: Axis, span: tuple[float, float]) -> list[str]:
    found = []
    for tick in axis.ticks(*span):
        at = _place(axis, tick, span, HEIGHT - BOTTOM, TOP)
        found.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" class="grid"/>')
        found.append(
            f'<text x="{LEFT - 5}" y="{at + 4:.1f}" text-anchor="end">{axis.text(tick)}</text>'
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    name = Markup('<text transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>')
    return [*found, name.format(middle, axis.name)]


def _curve(line: Line, places: Sequence[tuple[float, float]], number: int) -> str:
    colour = COLOURS[number % len(COLOURS)]
    marks = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in places)
    if line.dots:
        return f'<g fill="{colour}" fill-opacity="0.55">{marks}</g>'
    path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
    dash = DASHES[number % len(DASHES)]
    drawn = f'<path d="M{path}" fill="none" stroke-dasharray="{dash}"/>' if places else ""
    return f'<g stroke="{colour}" fill="{colour}" stroke-width="1.6">{drawn}{marks}</g>'


def _legend(name: str, number: int) -> Markup:
    at = LEFT + 6 + number * 100
    return Markup(
        '<path d="M{} {y}h18" stroke="{}" stroke-width="1.6" stroke-dasharray="{}"/>'
        '<text x="{}" y="{}">{}</text>'
    ).format(at, COLOURS[number], DASHES[number], at + 22, 13, name, y=9)
