"""Prints what fits where, like a price list, and the plan of a job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.markup import escape

from tunesmith_api.methods import METHODS
from tunesmith_api.planner import DoesNotFit, Plan, PriceRow, quantity
from tunesmith_backend.plan.job_plan import PlannedJob
from tunesmith_cli.terminal.console import say, title
from tunesmith_cli.terminal.planned import UNKNOWN, duration, people, price

_STRATEGIES = ("ddp", "zero1", "zero2", "zero3")
_HEADINGS = ("MACHINE", "METHOD", *map(str.upper, _STRATEGIES), "TAKES", "HOST", "PUBLISH", "DISK", "TIME", "COST")
_ALWAYS = ("MACHINE", "METHOD", "DDP")


def print_plan(job: PlannedJob, prices: Sequence[PriceRow], ways: Sequence[str], *, show_all: bool) -> None:
    """Print what a job needs, where that fits, and what is chosen for it.

    Args:
        job: The job.
        prices: What fits where.
        ways: What would fit, where the job does not.
        show_all: Also list the rarer methods, and machines and methods with which nothing fits.
    """
    title("FineTuneJob", job.config.name, "what fits where")
    _print_facts(_facts(job))
    lines = [_line(list(rows)) for _, rows in groupby(prices, key=lambda row: (row.machine, row.method))]
    compared = {name for name in METHODS if name == job.config.spec.method or _is_common(name)}
    shown = [cells for cells, fits in lines if show_all or (fits and cells[1] in compared)]
    say("")
    _print_table(_HEADINGS, shown)
    hidden = len(lines) - len(shown)
    legend = "memory of each GPU, or of a machine without GPUs, with the reserve; - does not fit"
    if hidden:
        legend += f"; {hidden} more lines, of other methods or where nothing fits: --all"
    say(f"[dim]{legend}[/dim]")
    say("")
    found = job.found
    if isinstance(found, DoesNotFit):
        title("FineTuneJob", job.config.name, f"[red]does not fit[/red]: {escape(found.message)}")
        for way in ways:
            say(f"  would fit: {escape(way)}")
        return
    title("FineTuneJob", job.config.name, f"[green]fits[/green] on {escape(found.machine.name)}")
    _print_facts(_chosen(found))


def _is_common(method: str) -> bool:
    """Return whether a method is listed beside the job's own: all weights are trained, or a kind of LoRA."""
    info = METHODS[method]
    return not info.trains_adapter or info.adapter_kind == "lora"


def _facts(job: PlannedJob) -> Iterable[tuple[str, str]]:
    """Return the name and the text of each line about the model and the data."""
    shape, rows = job.shape, job.rows
    source = job.config.spec.model.uri or "from scratch"
    download = "nothing to download"
    plan = job.found.plan if isinstance(job.found, DoesNotFit) else job.found
    if plan is not None and plan.download:
        download = f"{quantity(plan.download)} to download"
    size = f"{people(shape.parameters)} parameters, {quantity(shape.weight_bytes)} of weights"
    yield "model", f"{source} ({shape.model_type}): {size}, {download}"
    count = f"{rows.rows:,} rows" if rows.rows is not None else "rows unknown"
    yield "data", f"{count}, {rows.mean:,.0f} tokens on average, {rows.longest:,} at most; {rows.note}"
    if plan is not None:
        yield "prepare", f"{quantity(plan.stages['prepare'].memory)} of memory, the same on every machine"


def _line(rows: list[PriceRow]) -> tuple[list[str], bool]:
    """Return the cells of a machine and a method, and whether any strategy fits."""
    by_strategy = {row.strategy: row for row in rows}
    cells = [rows[0].machine, rows[0].method]
    for name in _STRATEGIES:
        row = by_strategy.get(name)
        cells.append("" if row is None else quantity(row.need) if row.fits else UNKNOWN)
    taken = next((row for row in rows if row.fits), None)
    if taken is None:
        least = min(rows, key=lambda row: row.need)
        return [*cells, f"{quantity(least.need)} of {quantity(least.available)}", *[""] * 5], False
    stages = taken.plan.stages
    batch = f"{taken.strategy} x{taken.micro_batch_size}" + (" ckpt" if taken.gradient_checkpointing else "")
    sizes = [quantity(stages["train"].memory), quantity(stages["publish"].memory), quantity(stages["publish"].disk)]
    return [*cells, batch, *sizes, duration(taken.hours), price(taken.cost)], True


def _chosen(plan: Plan) -> Iterable[tuple[str, str]]:
    """Return the name and the text of each line about a plan."""
    setup, status = plan.setup, plan.to_status()
    processes = f"{setup.processes} process" + ("es" if setup.processes > 1 else "")
    batch = f"{setup.micro_batch_size} rows a forward pass, {setup.gradient_accumulation_steps} of them a step"
    keeps = "activations computed again" if setup.gradient_checkpointing else "activations kept"
    extra = f", offload {setup.offload}" if setup.offload != "none" else ""
    rows = "; rows are packed" if setup.packing else ""
    yield "training", f"{processes}, {setup.strategy}{extra}, {setup.precision}; {batch}; {keeps}{rows}"
    for name, need in status["stages"].items():
        gpu = f"{need['gpuMemory']} of each GPU, " if "gpuMemory" in need else ""
        time = f", {duration(need['seconds'] / 3600)}" if "seconds" in need else ""
        yield name, f"{gpu}{need['memory']} of memory, {need['disk']} of disk{time}"
    if plan.cost is not None:
        yield "cost", f"{price(plan.cost)} for {duration(plan.hours)} of {plan.nodes} x {plan.machine.name}"
    for name, why in plan.reasons.items():
        yield "why", f"{name}: {why}"


def _print_facts(facts: Iterable[tuple[str, str]]) -> None:
    before = ""
    for name, text in facts:
        say(f"  [bold]{'' if name == before else name:<10}[/bold]{escape(text)}")
        before = name


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in aligned columns, each on one line whatever the width: a pipe gets what a terminal shows."""
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    used = [
        name in _ALWAYS or any(row[index] not in ("", UNKNOWN) for row in rows)
        for index, name in enumerate(headings)
    ]  # fmt: skip

    def line(cells: Sequence[str]) -> str:
        padded = (f"{cell:<{width}}" for cell, width, shown in zip(cells, widths, used, strict=True) if shown)
        return escape("  ".join(padded).rstrip())

    say(f"[bold]{line(headings)}[/bold]")
    for row in rows:
        say(line(row))
