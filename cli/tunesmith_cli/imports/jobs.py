"""Fine-tuning jobs as OpenAI's API shows them, and what of them matters here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith_cli.imports.errors import ImportFailedError

KIND = "fine_tuning.job"
_MOST_NAME = 40


@dataclass(frozen=True)
class ForeignJob:
    """A job of OpenAI's.

    Attributes:
        id: Its id; empty for data without a job.
        model: The model that it tunes.
        training_file: Id of its file of rows.
        validation_file: Id of its file of rows to validate with.
        fine_tuned_model: The model that it has made.
        suffix: What its user has called that.
        method: `supervised`, `dpo` or `reinforcement`.
        hyperparameters: What was set of them; those that OpenAI has chosen are numbers here too.
        seed: Its seed.
        integrations: Types of its integrations.
        metadata: What its user has noted.
    """

    id: str = ""
    model: str = ""
    training_file: str = ""
    validation_file: str | None = None
    fine_tuned_model: str | None = None
    suffix: str | None = None
    method: str = "supervised"
    hyperparameters: dict[str, int | float] = field(default_factory=dict)
    seed: int | None = None
    integrations: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of its FineTuneJob: the suffix and the end of the id, as a DNS label."""
        parts = [part for part in (self.suffix, self.id.removeprefix("ftjob-")[-8:]) if part]
        label = re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower())[-_MOST_NAME:].strip("-")
        return label if label[:1].isalpha() else f"ft-{label}".strip("-")


def read_jobs(path: Path) -> list[ForeignJob]:
    """Return the jobs of a file: one job, a list as the API gives it, or an array.

    Raises:
        ImportFailedError: It holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ImportFailedError(f"{path}: not JSON: {error}") from None
    if isinstance(found, dict) and found.get("object") == "list":
        found = found.get("data")
    objects = found if isinstance(found, list) else [found]
    return [job_of(item, f"{path}: " if len(objects) == 1 else f"{path}: job {n}: ") for n, item in enumerate(objects)]


def job_of(found: Any, where: str = "") -> ForeignJob:  # noqa: ANN401 - any JSON value
    """Return a job from its object.

    Args:
        found: The object.
        where: What an error begins with.

    Raises:
        ImportFailedError: It is none.
    """
    if not isinstance(found, dict) or found.get("object") != KIND:
        raise ImportFailedError(f'{where}not a job; write what GET /v1/fine_tuning/jobs/ID gives ("object": "{KIND}")')
    texts: dict[str, str] = {}
    for name in ("id", "model", "training_file"):
        if not isinstance(found.get(name), str) or not found[name]:
            raise ImportFailedError(f"{where}{name} is missing from the job")
        texts[name] = found[name]
    method = found.get("method") or {}
    kind = method.get("type", "supervised")
    model = found.get("fine_tuned_model")
    return ForeignJob(
        id=texts["id"],
        model=texts["model"],
        training_file=texts["training_file"],
        validation_file=found.get("validation_file"),
        fine_tuned_model=model,
        suffix=found.get("user_provided_suffix") or _suffix(model),
        method=kind,
        hyperparameters=_numbers(found.get("hyperparameters"))
        | _numbers((method.get(kind) or {}).get("hyperparameters")),
        seed=found.get("seed"),
        integrations=tuple(str(item.get("type")) for item in found.get("integrations") or []),
        metadata=found.get("metadata") or {},
    )


def _suffix(model: str | None) -> str | None:
    """Return the suffix in `ft:BASE:ORG:SUFFIX:ID`."""
    parts = (model or "").split(":")
    return parts[3] or None if len(parts) >= 5 else None


def _numbers(found: Any) -> dict[str, int | float]:  # noqa: ANN401 - any JSON value
    if not isinstance(found, dict):
        return {}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    }
