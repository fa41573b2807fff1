"""Prints a data report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_BAR = 40
_LOCATIONS = 3
_CLASSES = 20
_TARGET, _SPECIAL = "bold green", "cyan"


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print a report: facts, lengths, and a few rows with special tokens and targets in colour."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(report):
        table.add_row(name, Text(text))
    console.print(table)
    _print_lengths(report["lengths"], console)
    _print_samples(report["samples"], console)


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the name and the text of each line of facts."""
    columns = ", ".join(name if name == own else f"{own}: {name}" for own, name in report["columns"].items())
    facts = [
        ("format", f"{report['format']} ({report['formatReason']})"),
        ("columns", columns),
    ]
    facts += [("not used", _unused(column)) for column in report["unusedColumns"]]
    facts.append(
        ("rows", f"{report['rows']:,}: {report['trainRows']:,} to train on, {report['validationRows']:,} to validate")
    )
    facts += _labels(report.get("labels"))
    for key, name in (
        ("duplicates", "duplicates"),
        ("contradictions", "same prompt, other answer"),
        ("validationInTraining", "validation rows in training"),
        ("truncated", "cut at the end" if "labels" in report else "lost their oldest turns"),
        ("split", "split into several rows"),
        ("skipped", "skipped, too long"),
        ("specialTokens", "special tokens in the text"),
    ):
        if key in report:
            facts.append((name, _found(report[key])))
    return facts


def _labels(labels: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Return the lines about the labels of rows."""
    if not labels or "problemType" not in labels:
        return []
    if "classes" not in labels:
        return [("labels", f"{labels['problemType']}: {labels['smallest']:g} to {labels['largest']:g}")]
    classes = labels["classes"]
    shown = [f"{_class(entry)}" for entry in classes[:_CLASSES]]
    more = ["..."] if labels["count"] > len(shown) else []
    lines = [f"{labels['problemType']}, {labels['count']:,} labels", *shown, *more]
    facts = [("labels", "\n".join(lines))]
    if labels["similar"]:
        pairs = "\n".join(f"{one!r}, {other!r}" for one, other in labels["similar"][:_LOCATIONS])
        facts.append(("nearly equal labels", pairs))
    return facts


def _class(entry: Mapping[str, Any]) -> str:
    validation = f", {entry['validationRows']:,} to validate" if "validationRows" in entry else ""
    return f"{entry['rows']:>9,}  {entry['label']}{validation}"


def _unused(column: Mapping[str, Any]) -> str:
    name, suggestion = str(column["name"]), column["suggestion"]
    return name + (f"; to use it, write spec.dataset: {{{suggestion}}}" if suggestion else "")


def _found(found: Mapping[str, Any]) -> str:
    """Return a number of rows with the first locations."""
    examples: Sequence[Any] = found["examples"][:_LOCATIONS]
    shown = [_relative(item if isinstance(item, str) else f"{item[0]}, compare {item[1]}") for item in examples]
    more = ["..."] if found["rows"] > len(shown) and shown else []
    return "\n".join([f"{found['rows']:,}", *shown, *more])


def _relative(text: str) -> str:
    """Return a text with the paths in the current directory made relative."""
    return text.replace(f"{Path.cwd()}/", "")


def _print_lengths(lengths: Mapping[str, Any], console: Console) -> None:
    if not lengths["histogram"]:
        return
    unit, limit = lengths["unit"], lengths["limit"]
    console.print(
        f"\n[bold]lengths in {unit}[/bold]: median {lengths['median']:,}, 95% up to {lengths['percentile95']:,}, "
        f"longest {lengths['longest']:,}" + (f", at most {limit:,} are used" if limit else "")
    )
    most = max(item["rows"] for item in lengths["histogram"])
    for item in lengths["histogram"]:
        beyond = limit is not None and item["from"] > limit
        bar = "█" * (round(_BAR * item["rows"] / most) or bool(item["rows"]))
        upper = f"to {item['to']:,}" if item["to"] > item["from"] else ""
        line = f"{item['from']:>9,} {upper:<13}{item['rows']:>9,} "
        console.print(Text(line) + Text(bar, style="red" if beyond else "blue"))


def _print_samples(samples: Sequence[Mapping[str, Any]], console: Console) -> None:
    if not samples:
        return
    rendered = not any("role" in piece for sample in samples for piece in sample["pieces"])
    heading = (
        "\nrows as the model sees them: "
        if rendered
        else "\nfirst rows (with a model in a folder: as the model sees them): "
    )
    special = (", ", ("special tokens", _SPECIAL)) if rendered else ()
    console.print(Text.assemble((heading, "bold"), ("targets", _TARGET), *special))
    for sample in samples:
        console.print(Text(_relative(sample["location"]), style="dim"))
        text = Text("  ")
        for index, piece in enumerate(sample["pieces"]):
            if piece.get("role"):
                text.append(("\n  " if index else "") + f"{piece['role']}: ", style="dim")
            style = " ".join(filter(None, (_TARGET * piece["target"], _SPECIAL * piece["special"])))
            text.append(_visible(piece["text"]), style=style or None)
        text.rstrip()
        console.print(text, soft_wrap=True)


def _visible(text: str) -> str:
    """Return a text with its line ends visible, indented."""
    return text.replace("\r", "␍").replace("\n", "↵\n  ")
