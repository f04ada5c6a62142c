"""Charts as inline SVG: no scripts, no files, colours taken from the page's style, so they follow light and dark.

Each mark has its light colours as attributes too, which the page's style goes before: what makes a PDF or a mail of the
page may not know that styles hold for SVG. Each function gives markup whose every text was escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40

INKS = {"a": "#1f6f63", "b": "#c2622d", "plain": "#9aa1a8"}
"""Colours of the page's style on light paper."""
TEXT = 'font-family="sans-serif" font-size="12" fill="#626a73"'
GRID = 'class="grid" stroke="#e3e1dc" stroke-width="1"'


def style(name: str) -> str:
    """The class of a mark such as `line-a`, and what it looks like where classes say nothing."""
    kind, _, ink = name.partition("-")
    looks = {
        "line": f'fill="none" stroke="{INKS[ink]}" stroke-width="2"',
        "dot": f'fill="{INKS[ink]}"',
        "bar": f'stroke="{INKS[ink]}" stroke-width="6" stroke-opacity="0.35"',
    }
    return f'class="{name}" {looks[kind]}'


class Frame:
    """A plot's frame: maps data to pixels, and draws axes with round numbers.

    Args:
        x: least and largest value across.
        y: least and largest value upwards.
    """

    def __init__(self, x: tuple[float, float], y: tuple[float, float], x_label: str, y_label: str) -> None:
        self.x, self.y = widen(x), widen(y)
        self.x_label, self.y_label = x_label, y_label
        self.marks: list[str] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a point of the data."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    def line(self, points: Points, name: str) -> None:
        """A line of the class `name`."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self.marks.append(f'<polyline {style(name)} points="{path}"/>')

    def dots(self, points: Points, name: str, radius: float = 3.0) -> None:
        """Points of the class `name`."""
        for point in points:
            x, y = self.at(*point)
            self.marks.append(f'<circle {style(name)} cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"/>')

    def draw(self, title: str) -> str:
        """The whole SVG; `title` is what a screen reader says."""
        axes = [self._tick_x(value) for value in round_ticks(*self.x)] + [
            self._tick_y(value) for value in round_ticks(*self.y)
        ]
        middle = (LEFT + WIDTH - RIGHT) / 2
        labels = (
            f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self.x_label)}</text>'
            f'<text class="axis" x="14" y="{HEIGHT / 2}" text-anchor="middle"'
            f' transform="rotate(-90 14 {HEIGHT / 2})">{escape(self.y_label)}</text>'
        )
        body = "".join(axes) + labels + "".join(self.marks)
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" {TEXT} aria-label="{escape(title)}">{body}</svg>'

    def _tick_x(self, value: float) -> str:
        x, _ = self.at(value, self.y[0])
        return (
            f'<line {GRID} x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{value:g}</text>'
        )

    def _tick_y(self, value: float) -> str:
        _, y = self.at(self.x[0], value)
        return (
            f'<line {GRID} x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )


def widen(span: tuple[float, float]) -> tuple[float, float]:
    """A span that isn't empty."""
    low, high = span
    if high > low:
        return low, high
    return low - max(abs(low) * 0.1, 0.5), high + max(abs(high) * 0.1, 0.5)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers between two values, a handful of them."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def draw_history(training: Points, validation: Points) -> str:
    """Training and validation loss over steps. Where the first tenth of the training would squeeze the rest, the axis
    ends below its losses, which are drawn at the edge."""
    top = max(loss for _, loss in (*training[len(training) // 10 :], *validation))
    shown = [(step, min(loss, top)) for step, loss in training]
    label = "loss" if shown == list(training) else "loss (larger ones at the edge)"
    steps = [step for step, _ in (*training, *validation)]
    frame = Frame((0.0, max(steps)), (0.0, top), "optimizer step", label)
    if len(training) > 1:
        frame.line(shown, "line-a")
    frame.line(validation, "line-b")
    frame.dots(validation, "dot-b")
    return frame.draw("training and validation loss over steps")


def draw_series(points: Points, label: str, with_dots: bool = False) -> str:
    """One quantity over steps, on an axis of its own."""
    values = [value for _, value in points]
    frame = Frame((0.0, max(step for step, _ in points)), (min(values), max(values)), "optimizer step", label)
    frame.line(points, "line-a")
    if with_dots:
        frame.dots(points, "dot-a")
    return frame.draw(f"{label} over steps")


def draw_calibration(bins: Sequence[dict[str, float]]) -> str:
    """How often the model is right against how sure it is; larger dots hold more rows, the diagonal is perfect."""
    frame = Frame((0.0, 1.0), (0.0, 1.0), "confidence", "share that is right")
    frame.line([(0.0, 0.0), (1.0, 1.0)], "line-plain")
    largest = max((each["count"] for each in bins), default=1) or 1
    for each in bins:
        if each["count"]:
            frame.dots([(each["confidence"], each["accuracy"])], "dot-a", 3 + 7 * math.sqrt(each["count"] / largest))
    return frame.draw("accuracy against confidence")


def draw_scatter(pairs: Points) -> str:
    """Predicted against true numbers; the diagonal is perfect."""
    values = [value for pair in pairs for value in pair]
    span = (min(values), max(values))
    frame = Frame(span, span, "true", "predicted")
    frame.line([(span[0], span[0]), (span[1], span[1])], "line-plain")
    frame.dots(pairs, "dot-a", 2.5)
    return frame.draw("predicted against true numbers")


def draw_scores(entries: Sequence[tuple[str, float, tuple[float, float] | None]]) -> str:
    """One line a model: its score as a dot, its 95 % interval as a bar."""
    row, left = 34, 150
    height = row * len(entries) + 34
    lows = [bounds[0] if bounds else score for _, score, bounds in entries]
    highs = [bounds[1] if bounds else score for _, score, bounds in entries]
    low, high = widen((min(0.0, min(lows)), max(highs)))

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - left - 60)

    parts = []
    for tick in round_ticks(low, high):
        x = across(tick)
        parts.append(f'<line {GRID} x1="{x:.1f}" y1="6" x2="{x:.1f}" y2="{height - 24}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for place, (name, score, bounds) in enumerate(entries):
        y = 6 + row * place + row / 2
        kind = "a" if place == len(entries) - 1 else "plain"
        parts.append(f'<text class="name" x="{left - 10}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        if bounds:
            x1, x2 = across(bounds[0]), across(bounds[1])
            parts.append(f'<line {style(f"bar-{kind}")} x1="{x1:.1f}" y1="{y}" x2="{x2:.1f}" y2="{y}"/>')
        parts.append(f'<circle {style(f"dot-{kind}")} cx="{across(score):.1f}" cy="{y}" r="5"/>')
        end = across(bounds[1] if bounds else score)
        parts.append(f'<text x="{end + 10:.1f}" y="{y + 4}">{score:.3f}</text>')
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" {TEXT} aria-label="scores with intervals">{body}</svg>'
