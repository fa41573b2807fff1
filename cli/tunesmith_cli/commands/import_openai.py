"""`tunesmith import openai`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.tasks import METRICS
from tunesmith_cli.imports.collect import collect
from tunesmith_cli.imports.errors import ImportFailedError
from tunesmith_cli.imports.folder import write_folder
from tunesmith_cli.imports.golden import GoldenSet, record
from tunesmith_cli.imports.prompts import read_prompts
from tunesmith_cli.imports.remote import Remote
from tunesmith_cli.imports.translate import Choices
from tunesmith_cli.terminal import signals
from tunesmith_cli.terminal.console import CliError, err, say

_EVERY = 25


@dataclass(frozen=True)
class Recording:
    """What is asked of an old model.

    Attributes:
        prompts: File of the prompts.
        model: The model's name; of a single job by default its own.
        at_once: Prompts that are asked at the same time.
        max_tokens: Most tokens of an answer.
    """

    prompts: Path
    model: str | None
    at_once: int
    max_tokens: int


def import_openai(
    given: Sequence[str],
    out: Path,
    *,
    every: bool,
    validation: Path | None,
    base: str,
    method: str,
    gates: Sequence[str],
    recording: Recording | None,
    base_url: str,
    overwrite: bool,
) -> None:
    """Write the manifests of jobs and rows into a folder.

    Args:
        given: Files, folders and ids of jobs.
        out: The folder.
        every: Import all jobs that have succeeded.
        validation: Rows to validate with, for rows without a job.
        base: URI of the model to fine-tune.
        method: How to fine-tune it.
        gates: `METRIC=MIN` on the recorded answers.
        recording: What is asked of the old model, if it is.
        base_url: URL of the API.
        overwrite: Replace folders that differ.

    Raises:
        CliError: Something is missing or wrong.
    """
    signals.raise_keyboard_interrupt()
    key = os.environ.get("OPENAI_API_KEY")
    here = Path(base)  # a folder is named from where the command runs, in a manifest from where that lies
    choices = Choices(str(here.resolve()) if here.exists() else base, method, tuple(map(_gate, gates)))
    out.mkdir(parents=True, exist_ok=True)
    try:
        remote = Remote(base_url, key) if key else None
        with tempfile.TemporaryDirectory(prefix=".reading-", dir=out) as downloads:
            found = collect(given, validation, remote, every, Path(downloads))
            if not found and recording is None:
                raise ImportFailedError("name rows, jobs or folders, or write --all or --record; --help shows all")
            own = found[0].job.fine_tuned_model if len(found) == 1 else None
            golden = None if recording is None else _record(remote, recording, own, out)
            for item in found:
                folder = write_folder(item, golden, choices, out, overwrite=overwrite)
                say(f"{item.job.id or item.job.name}: {folder}")
    except ImportFailedError as error:
        raise CliError(str(error)) from None
    if found:
        say(f"Read the comments in finetunejob.yaml. Then: tunesmith validate -f {folder}")
    elif golden is not None:
        say(f"As spec.dataset.validation.sources of a FineTuneJob: {{uri: {golden.path}}}")


def _record(remote: Remote | None, recording: Recording, own: str | None, out: Path) -> GoldenSet:
    model = recording.model or own
    if remote is None:
        raise ImportFailedError("set OPENAI_API_KEY to ask the old model")
    if model is None:
        raise ImportFailedError("write --model: the name of the old model, such as ft:gpt-4o-mini-2024-07-18:acme::AbC")

    def tell(done: int, total: int) -> None:
        if done % _EVERY == 0 or done == total:
            err.print(f"{done} of {total} prompts are answered")

    golden = record(
        remote,
        model,
        read_prompts(recording.prompts),
        out / "golden.jsonl",
        at_once=recording.at_once,
        max_tokens=recording.max_tokens,
        tell=tell,
    )
    say(f"{golden.rows} answers of {model}: {golden.path}")
    for reason in golden.left_out:
        err.print(f"left out: {reason}")
    return golden


def _gate(text: str) -> tuple[str, float]:
    metric, _, least = text.partition("=")
    try:
        if metric in METRICS:
            return metric, float(least)
    except ValueError:
        pass
    raise CliError(f"write --gate METRIC=MIN, such as --gate exactMatch=0.8, not {text}")
