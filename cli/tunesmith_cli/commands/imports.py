"""`tunesmith import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith_cli.imports.defaults import DEFAULT_BASE, OPENAI_URL

app = typer.Typer(name="import", help="Make manifests of what other services hold.", no_args_is_help=True)


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
        typer.Option(help="METRIC=MIN on the recorded answers, rougeL=0.5 by default; may be repeated."),
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
    from tunesmith_cli.commands.import_openai import Recording, import_openai

    import_openai(
        given or [],
        out,
        every=every,
        validation=validation,
        base=base,
        method=method,
        gates=gate or [],
        recording=None if prompts is None else Recording(prompts, model, at_once, max_tokens),
        base_url=base_url,
        overwrite=overwrite,
    )
