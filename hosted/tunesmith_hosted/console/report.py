"""The report on a file: what `tunesmith data` says of it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from tunesmith_api.spec import JobConfig
from tunesmith_backend.interface.errors import BackendError
from tunesmith_backend.local.data_report import data_report
from tunesmith_hosted.config.bases import BaseModelSettings
from tunesmith_hosted.database.tables import File
from tunesmith_hosted.files.store import StoreError, store_of
from tunesmith_hosted.files.threads import in_thread
from tunesmith_hosted.fine_tuning.rows.check import Method, check_file
from tunesmith_hosted.http.context import Context
from tunesmith_hosted.http.errors import ApiError

Object = dict[str, Any]

MOST_BYTES = 64 << 20
"""Of a larger file, the report is on so many bytes."""

_MOST_KEPT = 64
_NAME = "rows.jsonl"
_FINDINGS = {
    "duplicates": "rows repeat an earlier one",
    "contradictions": "rows have the prompt of an earlier one and another answer",
    "validationInTraining": "rows kept for validation are training rows too",
    "truncated": "rows are too long and lose their oldest turns",
    "skipped": "rows are too long and are skipped",
    "specialTokens": "rows have special tokens in their text",
}


class Reports:
    """Makes reports, one at a time since each takes a process, and keeps them: a file never changes."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._kept: dict[tuple[str, str], Object] = {}

    async def report(self, context: Context, file: File, base: BaseModelSettings | None) -> Object:
        """Return the report on a file.

        Args:
            context: The service.
            file: The file.
            base: The model that is to learn from it; its tokenizer is used where it is in a folder of this machine.

        Raises:
            ApiError: The report cannot be made here.
        """
        key = (file.sha256, base.name if base is not None else "")
        async with self._turn:
            if key not in self._kept:
                if len(self._kept) >= _MOST_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                self._kept[key] = await in_thread(_make, context, file, base)
            return self._kept[key]


def _make(context: Context, file: File, base: BaseModelSettings | None) -> Object:
    with tempfile.TemporaryDirectory(prefix="tunesmith-report-") as folder:
        path = Path(folder) / _NAME
        with store_of(context).reader(file.path) as source, path.open("wb") as target:
            is_whole = _copy(source, target)
        problems = _checked(path)
        try:
            found = data_report(_config(path, base), {})
        except BackendError as error:
            raise StoreError(f"A report cannot be made here: {error}") from error
        return shown(found, problems, is_whole=is_whole)


def _copy(source: BinaryIO, target: BinaryIO) -> bool:
    """Copy a file, or the whole lines of its first bytes; return whether it is all of it."""
    data = source.read(MOST_BYTES + 1)
    is_whole = len(data) <= MOST_BYTES
    target.write(data if is_whole else data[: data.rfind(b"\n") + 1])
    return is_whole


def _checked(path: Path) -> list[Object]:
    """Return what a job would refuse."""
    with path.open("rb") as file:
        first = file.readline(1 << 20)
    method: Method = "dpo" if b'"preferred_output"' in first else "supervised"
    with path.open("rb") as file:
        checked = check_file(file, method, 1)
    problems = [{"level": "error", "kind": "invalid", "rows": 1, "message": message} for message in checked.errors]
    if checked.wrong > len(checked.errors):
        more = checked.wrong - len(checked.errors)
        problems.append({"level": "error", "kind": "invalid", "rows": more, "message": f"{more} more lines are wrong"})
    return problems


def _config(path: Path, base: BaseModelSettings | None) -> JobConfig:
    """Return a job that reads a file, and is never run."""
    uri = str(base.model.get("uri", "")) if base is not None else ""
    local = Path(uri.removeprefix("file://")).absolute() if uri and "://" not in uri.removeprefix("file://") else None
    model: Object = {"scratch": {"architecture": "llama"}}
    if local is not None and local.is_dir():
        model = {"uri": str(local)}
    spec: Object = {"model": model, "method": "full", "dataset": {"sources": [{"uri": str(path)}]}}
    if base is not None and (length := (base.job.get("training") or {}).get("maxLength")) is not None:
        spec["training"] = {"maxLength": length}
    try:
        return JobConfig.model_validate({"name": "report", "spec": spec})
    except ValidationError as error:
        message = f"The base model's settings are wrong: {error.errors()[0]['msg']}; ask an administrator"
        raise ApiError(500, message, type="server_error") from None


def shown(report: Mapping[str, Any], problems: list[Object], *, is_whole: bool) -> Object:
    """Return a report of `tunesmith data` as the console shows it.

    Args:
        report: The report, or `{error: {message, remedy}}`.
        problems: What a job would refuse.
        is_whole: Whether it is on all of the file.
    """
    if "error" in report:
        error = report["error"]
        message = ". ".join(filter(None, (error["message"], error["remedy"]))).replace(f"{_NAME}:", "line ")
        problems = problems or [{"level": "error", "kind": "invalid", "rows": 1, "message": _without_folder(message)}]
        return {
            "format": None, "rows": None, "tokens": None, "duplicates": None, "lengths": None, "isWhole": is_whole,
            "problems": problems, "preview": [],
        }  # fmt: skip
    lengths = report["lengths"]
    for key, text in _FINDINGS.items():
        count = (report.get(key) or {}).get("rows", 0)
        if count:
            examples = [_places(item) for item in report[key]["examples"][:5]]
            problems.append(
                {"level": "warn", "kind": key, "rows": count, "message": f"{count} {text}", "examples": examples}
            )
    return {
        "format": report["format"],
        "rows": report["rows"],
        "tokens": lengths.get("total") if lengths["unit"] == "tokens" else None,
        "duplicates": (report.get("duplicates") or {}).get("rows", 0),
        "lengths": lengths,
        "isWhole": is_whole,
        "problems": problems,
        "preview": [
            {
                "line": _line(sample["location"]),
                "pieces": [
                    {
                        "text": piece["text"],
                        "trained": bool(piece["target"]),
                        "special": bool(piece["special"]),
                        "role": piece.get("role"),
                    }
                    for piece in sample["pieces"]
                ],
            }
            for sample in report["samples"]
        ],
    }


def _places(item: str | list[str]) -> list[int | None]:
    """Return the lines of an example: a row, or a row and the one to compare it with."""
    return [_line(place) for place in ([item] if isinstance(item, str) else item)]


def _line(location: str) -> int | None:
    number = location.rpartition(":")[2]
    return int(number) if number.isdigit() else None


def _without_folder(message: str) -> str:
    """Return a message without the temporary folder's name."""
    return " ".join(word.rpartition("/")[2] if word.startswith("/") else word for word in message.split(" "))
