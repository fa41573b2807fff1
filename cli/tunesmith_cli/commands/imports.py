"""`tunesmith import`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunesmith_api.tasks import METRICS
from tunesmith_cli.imports.collect import collect
from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.folder import write_folder
from tunesmith_cli.imports.golden import GoldenSet, record
from tunesmith_cli.imports.prompts import read_prompts
from tunesmith_cli.imports.remote import OPENAI_URL, Remote
from tunesmith_cli.imports.translate import DEFAULT_BASE, Choices
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, err, say

app = typer.Typer(name="import", help="Make manifests of what other services hold.", no_args_is_help=True)

_EVERY = 25


@app.callback()
def _imports() -> None:
    """Make manifests of what other services hold."""


@app.command("openai")
def openai(
    given: Annotated[
        list[str] | None,
        typer.Argument(help="Rows (.jsonl), jobs (.json), folders of them, or ids of jobs (ftjob-...)."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder that is written to: NAME in it for each job.")] = Path("imported"),
    every: Annotated[bool, typer.Option("--all", help="Import all jobs of the key that have succeeded.")] = False,
    validation: Annotated[Path | None, typer.Option(help="Rows to validate with, for rows without a job.")] = None,
    base: Annotated[str, typer.Option(help="URI of the model to fine-tune: OpenAI keeps its own.")] = DEFAULT_BASE,
    method: Annotated[str, typer.Option(help="Method of fine-tuning, as spec.method names it.")] = "lora",
    prompts: Annotated[
        Path | None, typer.Option("--record", help="Prompts (.jsonl) to ask the old model now; its answers are kept.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The old model to ask; of a single job by default its own.")] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(help="METRIC=MIN on the recorded answers; may be repeated; rougeL=0.5 by default."),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, max=64, help="Prompts that are asked at the same time.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Most tokens of a recorded answer.")] = 512,
    base_url: Annotated[
        str, typer.Option(envvar="OPENAI_BASE_URL", help="URL of the API that is read and asked.")
    ] = OPENAI_URL,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace folders that are there and differ.")] = False,
) -> None:
    """Make manifests of OpenAI's fine-tuning jobs and rows, and keep answers of its models.

    OPENAI_API_KEY is used where something is read from the API.
    """
    signals.raise_keyboard_interrupt()
    key = os.environ.get("OPENAI_API_KEY")
    choices = Choices(base, method, tuple(map(_gate, gate or [])))
    out.mkdir(parents=True, exist_ok=True)
    try:
        remote = Remote(base_url, key) if key else None
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=out) as downloads:
            found = collect(given or [], validation, remote, every, Path(downloads))
            if not found and prompts is None:
                raise ImportFailedError("name rows, jobs or folders, or write --all or --record; --help shows all")
            old = model or (found[0].job.fine_tuned_model if len(found) == 1 else None)
            golden = None if prompts is None else _record(remote, old, prompts, out, at_once, max_tokens)
            for item in found:
                folder = write_folder(item, golden, choices, out, overwrite=overwrite)
                say(f"{item.job.id or item.job.name}: {folder}")
        if found:
            say(f"Read the comments in finetunejob.yaml. Then: tunesmith validate -f {folder}")
        elif golden is not None:
            say(f"As spec.dataset.validation.sources of a FineTuneJob: {{uri: {golden.path}}}")
    except ImportFailedError as error:
        raise CliError(str(error)) from None


def _record(
    remote: Remote | None, model: str | None, prompts: Path, out: Path, at_once: int, max_tokens: int
) -> GoldenSet:
    if remote is None:
        raise ImportFailedError("set OPENAI_API_KEY to ask the old model")
    if model is None:
        raise ImportFailedError("write --model: the name of the old model, such as ft:gpt-4o-mini-2024-07-18:acme::AbC")

    def tell(done: int, total: int) -> None:
        if done % _EVERY == 0 or done == total:
            err.print(f"{done} of {total} prompts are answered")

    asked = read_prompts(prompts)
    golden = record(remote, model, asked, out / "golden.jsonl", at_once=at_once, max_tokens=max_tokens, tell=tell)
    say(f"{golden.rows} answers of {model}: {golden.path}")
    _show_left_out(golden.left_out)
    return golden


def _show_left_out(reasons: Sequence[str]) -> None:
    for reason in reasons:
        err.print(f"left out: {reason}")


def _gate(text: str) -> tuple[str, float]:
    metric, _, least = text.partition("=")
    try:
        if metric in METRICS:
            return metric, float(least)
    except ValueError:
        pass
    raise CliError(f"write --gate METRIC=MIN, such as --gate exactMatch=0.8, not {text}")
