"""Draws a confusion matrix as an SVG."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_MOST = 30  # classes; the others are taken together
_CELL = 34
_LETTERS = 18  # of a name
_LETTER = 7.2  # width of one
_NARROWEST = 220  # so that the heading fits
_OTHERS = "(others)"


def confusion_svg(pairs: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return the picture of a confusion matrix: a row for each class, a column for each prediction.

    A cell's colour is the share of its row, on the diagonal in green, else in red.

    Args:
        pairs: `{label, predicted, rows}` of each pair that occurs.
        title: What it shows.
    """
    names = _names(pairs)
    counts: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        label, predicted = (name if name in names else _OTHERS for name in (pair["label"], pair["predicted"]))
        counts[label, predicted] += pair["rows"]
    left = round(max(len(_cut(name)) for name in names) * _LETTER) + 30
    top, size = left + 24, _CELL * len(names)
    width, height = max(left + size + 16, _NARROWEST), top + size + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18" font-weight="bold">{escape(title)}</text>',
        '<text x="8" y="36" fill="#555">row: label, column: prediction</text>',
    ]
    for place, name in enumerate(names):
        middle = place * _CELL + _CELL // 2
        cut = escape(_cut(name))
        parts.append(f'<text x="{left - 6}" y="{top + middle + 4}" text-anchor="end">{cut}</text>')
        x, y = left + middle + 4, top - 6
        parts.append(f'<text x="{x}" y="{y}" transform="rotate(-90 {x} {y})">{cut}</text>')
    for row, label in enumerate(names):
        total = sum(counts[label, predicted] for predicted in names)
        for column, predicted in enumerate(names):
            x, y = left + column * _CELL, top + row * _CELL
            parts += _cell(x, y, counts[label, predicted], total, row == column)
    return "\n".join([*parts, "</svg>", ""])


def _cell(x: int, y: int, rows: int, total: int, is_right: bool) -> list[str]:
    share = rows / total if total else 0.0
    colour = "#1a7f37" if is_right else "#cf222e"
    parts = [
        f'<rect x="{x}" y="{y}" width="{_CELL}" height="{_CELL}" fill="{colour}" fill-opacity="{share:.3f}" '
        'stroke="#d0d7de"/>'
    ]
    if rows:
        ink = "#fff" if share > 0.5 else "#1f2328"  # noqa: PLR2004 - half of the colour is dark
        middle = f'x="{x + _CELL // 2}" y="{y + _CELL // 2 + 4}"'
        parts.append(f'<text {middle} text-anchor="middle" fill="{ink}">{rows}</text>')
    return parts


def _names(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the classes in the order in which they come; of many those with the most rows."""
    rows: Counter[str] = Counter()
    for pair in pairs:
        rows[pair["label"]] += pair["rows"]
        rows[pair["predicted"]] += 0
    order = list(dict.fromkeys([pair["label"] for pair in pairs] + [pair["predicted"] for pair in pairs]))
    if len(order) <= _MOST:
        return order
    kept = {name for name, _ in rows.most_common(_MOST - 1)}
    return [*(name for name in order if name in kept), _OTHERS]


def _cut(name: str) -> str:
    return name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
