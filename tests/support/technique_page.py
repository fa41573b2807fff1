"""Writes docs/techniques.md and its picture from what was measured."""

from html import escape
from typing import Any

from support.technique_cells import STRATEGIES, Cell, cells, offloads
from support.technique_checks import CHECKS, TOLERANCE
from support.technique_claims import Measured, findings
from support.technique_measure import RATE_OF_ADAPTERS, RATE_OF_WEIGHTS

_HEAD = """\
# Techniques: what each costs, and what it gives

Written by `make techniques` ({when}); the code is [tests/bench/techniques.py](../tests/bench/techniques.py), the
numbers are in [tests/data/techniques.json](../tests/data/techniques.json). Do not edit. What the methods are, and
which to take: [methods.md](methods.md). What the fields mean: [api.md](api.md). How memory is planned:
[planning.md](planning.md).
"""

_TABLE = """
## Measured

{setup}

![Memory of a process and evaluation loss of each method](techniques.svg)

"""

_CLAIMS = """
## Claims

What the documents that this project comes from say of each technique, and what this run shows. "Holds" is computed from
the numbers.

| technique | claim | measured | holds |
|---|---|---|---|
"""

_MATRIX = """
## Methods and strategies

Each cell is trained on a model of {size} with 2 processes in fp32, {steps} steps, and must

- end within {tolerance:g} of plain torch (`ddp`) with 2 processes: the loss of every step, and every trained weight;
  a cell of plain torch is compared with one process;
- move every part that is trained, in fp32 and in bf16, and save an adapter in fp32;
- end with the same bits and losses when both processes are killed (SIGKILL) after step {killed} and run again;
- end within {tolerance:g} when it is killed and goes on with 1 process instead of 2.

A number is the largest difference of the first kind; then all of it holds. {summary}

"""


def page(results: dict[str, Any]) -> str:
    """Return the page.

    Args:
        results: What the benchmark keeps: `matrix`, `measured`, `setup`.
    """
    measured: Measured = results["measured"]
    parts = [_HEAD.format(when=results["setup"].get("when", "not run yet"))]
    if measured:
        parts += [_TABLE.format(setup=_setup(results["setup"])), _techniques(measured)]
        claims = [
            f"| {claim.technique} | {claim.text} | {text} | {'yes' if holds else '**no**'} |\n"
            for claim, text, holds in findings(measured)
        ]
        parts += [_CLAIMS, *claims] if claims else []
    parts += _matrix(results["matrix"])
    return "".join(parts)


def _setup(setup: dict[str, Any]) -> str:
    base = setup["base"]
    return (
        f"A Llama of {base['parameters'] / 1e6:.1f} million parameters has learned to explain the fields of this API "
        f"(exact match {base['metrics']['exactMatch']:.2f}). Each technique then teaches it, in {setup['steps']} "
        "steps of 16 rows, to answer in a few words that begin with the kind: "
        f"{base['rows']} rows, and {base['heldOut']} rows in phrasings that were kept out, on which the merged model "
        "is evaluated. Learning rates: "
        f"{RATE_OF_ADAPTERS:g} × the method's default for adapters (less for the variants that take less), "
        f"{RATE_OF_WEIGHTS:g} for all weights.\n\n"
        "*Trained*: parameters, and their share. *Memory*: most bytes of tensors of one of 2 processes in the steps of "
        "a Llama of 66 million parameters (fp32, 64 tokens), beside what the planner says; *at rest*: between two "
        "steps. *Speed*: useful tokens/s of 2 processes, in times of full training with plain torch; all take turns "
        f"in {setup['rounds']} rounds, and the median counts. These are figures of {setup['machine']}, not of a GPU. "
        "*Kept*: what a task needs besides the base model, and its share of the model's bytes."
    )


def _techniques(measured: Measured) -> str:
    lines = [
        "| technique | trained | memory, MB | planned | at rest | speed | kept | eval loss | perplexity | exact match "
        "|",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    reference = measured.get("full ddp", {}).get("tokensPerSecond")
    size = measured.get("full ddp", {}).get("learned", {}).get("kept")
    for name, found in measured.items():
        if "refused" in found:
            lines.append(f"| {_title(name)} | refused: {found['refused']} |{' |' * 8}")
            continue
        memory, learned = found.get("memory"), found.get("learned")
        row = [_title(name), f"{learned['trained']:,} ({learned['trained'] / learned['total']:.2%})" if learned else ""]
        row += [f"{memory[key] / 1e6:,.0f}" for key in ("allocated", "planned", "atRest")] if memory else [""] * 3
        speed = found.get("tokensPerSecond")
        row.append(f"{speed:,.0f}" + (f" ({speed / reference:.2f})" if reference else "") if speed else "")
        if learned:
            share = f" ({learned['kept'] / size:.1%})" if size else ""
            row.append(f"{learned['kept'] / 1e6:.2f} MB{share}")
            after = learned["after"]
            row += [f"{after['evalLoss']:.3f}", f"{after['perplexity']:.3f}", f"{after['exactMatch']:.2f}"]
        else:
            row += [""] * 4
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _title(name: str) -> str:
    return name.removesuffix(" ddp")


def _matrix(found: dict[str, Any]) -> list[str]:
    from support.technique_cells import KILLED_AT, SIZES, STEPS

    rows: dict[str, dict[str, str]] = {}
    reasons: list[str] = []
    counts = {"whole": 0, "refused": 0, "failed": 0, "left": 0}
    failures = []
    for cell in cells():
        result = found.get(cell.key(), {}).get("result")
        text, kind = _cell(result, reasons)
        counts[kind] += 1
        if kind == "failed":
            failures += [f"- {cell.name}: {line}" for line in _failures(result or {})]
        rows.setdefault(cell.technique, {})[_column(cell)] = text
    columns = [_column(Cell("", strategy, offload)) for strategy in STRATEGIES for offload in offloads()]
    # A column in which every cell is refused says nothing that its reason does not say.
    columns = [c for c in columns if any(c in row and not row[c].startswith("refused") for row in rows.values())]
    said = f"cells that hold: {counts['whole']}, refused with the reason below: {counts['refused']}, "
    said += f"**that fail: {counts['failed']}**" if counts["failed"] else "that fail: none"
    said += f", not run: {counts['left']}" if counts["left"] else ""
    size = f"hidden size {SIZES['hidden_size']}, {SIZES['num_hidden_layers']} layers"
    head = _MATRIX.format(
        size=size, steps=STEPS, killed=KILLED_AT, tolerance=TOLERANCE, summary=f"{said[0].upper()}{said[1:]}."
    )
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    lines += [f"| {name} | {' | '.join(row.get(c, '') for c in columns)} |" for name, row in rows.items()]
    lines += [""] + [f"{index}. {reason}" for index, reason in enumerate(reasons, start=1)]
    if failures:
        lines += ["", "What fails:", "", *failures]
    return [head, "\n".join(lines).rstrip() + "\n"]


def _column(cell: Cell) -> str:
    return cell.strategy + (f" + {cell.offload}" if cell.offload != "none" else "")


def _cell(result: dict[str, Any] | None, reasons: list[str]) -> tuple[str, str]:
    """Return what stands in a cell of the table, and of which kind it is."""
    if result is None:
        return "", "left"
    if "refused" in result:
        if result["refused"] not in reasons:
            reasons.append(result["refused"])
        return f"refused ({reasons.index(result['refused']) + 1})", "refused"
    checks = result["checks"]
    if not all(check["passed"] for check in checks.values()):
        return "**fails**", "failed"
    value = checks.get("equal", {}).get("value")
    return "holds" if value is None else f"{value:.0e}", "whole"


def _failures(result: dict[str, Any]) -> list[str]:
    return [f"{CHECKS[n]}: {c['detail']}" for n, c in result.get("checks", {}).items() if not c["passed"]]


_W, _H, _LEFT, _BOTTOM, _TOP, _RIGHT = 900, 460, 70, 60, 50, 110


def picture(measured: Measured) -> str:
    """Return the picture, as SVG: memory of a process from left to right, evaluation loss from bottom to top."""
    points = {
        _title(name): (found["memory"]["allocated"] / 1e6, found["learned"]["after"]["evalLoss"])
        for name, found in measured.items()
        if "memory" in found and "learned" in found
    }
    most_x = max((x for x, _ in points.values()), default=1) * 1.05
    most_y = max((y for _, y in points.values()), default=1) * 1.08

    def place(x: float, y: float) -> tuple[float, float]:
        return (_LEFT + x / most_x * (_W - _LEFT - _RIGHT), _H - _BOTTOM - y / most_y * (_H - _BOTTOM - _TOP))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" font-family="system-ui, sans-serif" '
        'font-size="13">',
        "  <title>Memory of a process and evaluation loss of each technique</title>",
        f'  <rect width="{_W}" height="{_H}" fill="#f8f9fb"/>',
        f'  <text x="{_LEFT}" y="28" font-weight="600">Memory of a process (66 million parameters) and evaluation '
        "loss after the same steps: lower left is better</text>",
        f'  <path d="M{_LEFT} {_TOP}V{_H - _BOTTOM}H{_W - _RIGHT}" stroke="#456" fill="none" stroke-width="1.5"/>',
        f'  <text x="{(_LEFT + _W - _RIGHT) / 2}" y="{_H - 14}" text-anchor="middle" '
        'fill="#345">peak of tensors, MB</text>',
        f'  <text x="20" y="{(_TOP + _H - _BOTTOM) / 2}" text-anchor="middle" fill="#345" '
        f'transform="rotate(-90 20 {(_TOP + _H - _BOTTOM) / 2})">evaluation loss</text>',
    ]
    for n in range(6):
        x, y = place(most_x * n / 5, most_y * n / 5)
        parts.append(f'  <text x="{x:.0f}" y="{_H - 40}" text-anchor="middle" fill="#678">{most_x * n / 5:.0f}</text>')
        parts.append(
            f'  <text x="{_LEFT - 8}" y="{y + 4:.0f}" text-anchor="end" fill="#678">{most_y * n / 5:.2f}</text>'
        )
    labels: list[tuple[float, float, int]] = []
    for name, (memory, loss) in sorted(points.items(), key=lambda point: (point[1][1], point[0])):
        x, y = place(memory, loss)
        is_left = x + 9 + 7 * len(name) > _W - 10
        start, at = x - 9 - 7 * len(name) if is_left else x, y + 4
        while any(_overlap((start, at, len(name)), label) for label in labels):
            at -= 14
        labels.append((start, at, len(name)))
        if at != y + 4:  # too far away to see whose it is
            parts.append(f'  <path d="M{x:.1f} {y:.1f}L{x + (-8 if is_left else 8):.1f} {at - 4:.1f}" stroke="#9ab"/>')
        parts.append(f'  <circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{"#c60" if "zero" in name else "#27a"}"/>')
        side = f'x="{x - 9:.1f}" text-anchor="end"' if is_left else f'x="{x + 9:.1f}"'
        parts.append(f'  <text {side} y="{at:.1f}" fill="#123">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _overlap(one: tuple[float, float, int], other: tuple[float, float, int]) -> bool:
    """Return whether two labels, as (x, y, letters), would overlap."""
    beside = one[0] > other[0] + 7 * other[2] or other[0] > one[0] + 7 * one[2]
    return abs(one[1] - other[1]) < 14 and not beside
