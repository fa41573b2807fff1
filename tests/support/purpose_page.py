"""Writes docs/purposes.md from what the cells gave."""

from typing import Any

from support.purpose_cells import PROCESSES, PURPOSES, TECHNIQUES, Cell, Purpose
from support.purpose_checks import ASKED, RIGHT

_HEAD = """\
# Purposes: what can be learned, with each technique

Written by `make purposes` ({when}, {machine}); the code is
[tests/bench/purposes.py](../tests/bench/purposes.py), the numbers are in
[tests/data/purposes.json](../tests/data/purposes.json). Do not edit. A manifest for each purpose:
[examples](../examples). What the techniques cost: [techniques.md](techniques.md).

Each cell adapts a small model of a real architecture (Llama, BERT or T5, 2 layers of width 128), which has learned a
part of what is in the rows, by the three stages of the product. It must

- make the metric better by the margin of its row: *before* → *after*, on rows that training does not have;
- export to ONNX in fp32 and pass the comparison with the torch model: the second number is the largest difference of a
  logit;
- be served by the real server, and answer {asked} requests over HTTP, at least {right} of them as the rows do (a model
  that writes: with a text).

The columns with ZeRO train with {processes} processes, the others with one. {summary}

"""

_ANSWERS = """
## What the servers answered

One request of each cell.

| cell | asked | answered |
|---|---|---|
"""

_AGAIN = """
## To run a cell again

```sh
python tests/bench/purposes.py --again --only '{name}'
```

The name of a cell is that of its row and its column. A pattern takes several: `--only '^chat'`, `--only DoRA`.
"""


def page(results: dict[str, Any]) -> str:
    """Return the page.

    Args:
        results: What the benchmark keeps: `cells`, `setup`.
    """
    found = {name: kept["result"] for name, kept in results["cells"].items() if "result" in kept}
    setup = results["setup"]
    said = {"when": setup.get("when", "not run yet"), "machine": setup.get("machine", "no machine")}
    head = _HEAD.format(asked=ASKED, right=RIGHT, processes=PROCESSES, summary=_summary(found), **said)
    parts = [head, _table(found)]
    wrong = [(name, line) for name, result in found.items() for line in result.get("failures", ())]
    if failures := [f"- {name}: {line}\n" for name, line in wrong]:
        parts += ["\nWhat fails:\n\n", *failures]
    answers = [
        f"| {name} | {_short(result['asked'])} | {_short(result['answered'])} |\n"
        for name, result in found.items()
        if "answered" in result
    ]
    if answers:
        parts += [_ANSWERS, *answers]
    parts.append(_AGAIN.format(name=Cell(PURPOSES[0], TECHNIQUES[0]).name))
    return "".join(parts)


def _summary(found: dict[str, Any]) -> str:
    ran = [result for result in found.values() if "leftOut" not in result]
    failed = sum(bool(result["failures"]) for result in ran)
    seconds = sum(result["seconds"] for result in ran)
    missing = len(PURPOSES) * len(TECHNIQUES) - len(found)
    said = f"Cells that hold: {len(ran) - failed}, "
    said += f"**that fail: {failed}**" if failed else "that fail: none"
    said += f", not run: {missing}" if missing else ""
    return f"{said}. All together took {seconds / 60:.0f} minutes."


def _table(found: dict[str, Any]) -> str:
    lines = [f"| | {' | '.join(technique.name for technique in TECHNIQUES)} |", "|---" * (len(TECHNIQUES) + 1) + "|"]
    for purpose in PURPOSES:
        cells = [_cell(Cell(purpose, technique), found) for technique in TECHNIQUES]
        task = purpose.task + (f", objective {purpose.spec['objective']}" if "objective" in purpose.spec else "")
        lines.append(f"| **{purpose.name}** ({task}): {purpose.demand()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(cell: Cell, found: dict[str, Any]) -> str:
    result = found.get(cell.name)
    if result is None:
        return ""
    if "leftOut" in result:
        return str(result["leftOut"])
    if result["failures"]:
        return "**fails**"
    values = f"{_number(cell.purpose, result['before'])} → {_number(cell.purpose, result['after'])}"
    model = ", on a Llama" if cell.base != cell.purpose.base else ""
    return f"{values}, {result['parity']:.0e}, {result['seconds']:.0f} s{model}"


def _number(purpose: Purpose, value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" if purpose.falls else f"{value:.2f}"


def _short(text: str) -> str:
    line = " ".join(text.split()).replace("|", "\\|")
    return line if len(line) <= 90 else f"{line[:87]}..."
