"""Which base model an adapter is published beside, where its artifact is, and whether it is the right one."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith_api.artifact import LORA_BASE, MANIFEST, digest_of_json
from tunesmith_api.contract import SKIP_OUTPUT_PROBE
from tunesmith_api.failures import Reason, StageError
from tunesmith_api.methods import METHODS
from tunesmith_api.spec import JobConfig
from tunesmith_trainer.storage import filesystems as storage
from tunesmith_trainer.storage.uris import local_path, scheme_of

NOT_YET = "after training"
"""Stands for the digest of quantized weights before training, when it is not known."""

_ANOTHER = "Write another export.baseUri, or leave it out: then each base has a folder of its own"


@dataclass(frozen=True)
class BaseIdentity:
    """What two jobs must have in common to share a base.

    Attributes:
        model: Digest of the base model's files.
        quantization: Digest of its quantized weights, if training computed with such.
        chat_template: Digest of its chat template; None if it has none.
        precisions: The number formats that are exported.
    """

    model: str
    quantization: str | None
    chat_template: str | None
    precisions: tuple[str, ...]

    @classmethod
    def of(
        cls, config: JobConfig, model: Mapping[str, Any], template: object, quantization: str | None
    ) -> BaseIdentity:
        """Return the identity of a job's base.

        Args:
            config: The job.
            model: `model` in the result of prepare.
            template: The base model's chat template, if it has one.
            quantization: Digest of its quantized weights, or `NOT_YET`; None if training uses no such.
        """
        digest = f"sha256:{hashlib.sha256(template.encode()).hexdigest()}" if isinstance(template, str) else None
        precisions = tuple(sorted(precision.value for precision in config.spec.precisions))
        return cls(str(model.get("digest")), quantization, digest, precisions)

    @property
    def folder_name(self) -> str:
        """The name of the artifact's folder, if the job names none."""
        parts = {"model": self.model, "quantization": self.quantization, "chatTemplate": self.chat_template}
        key = digest_of_json({**parts, "precisions": self.precisions}).removeprefix("sha256:")[:12]
        return "-".join(["base", *(["nf4"] if self.quantization else []), *self.precisions, key])

    def problem(self, manifest: Mapping[str, Any]) -> str | None:
        """Return why an artifact is not this base, as the end of a sentence about it; None if it is."""
        if manifest.get("kind") != LORA_BASE:
            return "is no base model for adapters"
        found = (manifest.get("baseModel") or {}).get("digest")
        if found != self.model:
            return f"is of another base model ({_short(found)}, not {_short(self.model)})"
        quantization = manifest.get("quantization")
        if quantization != self.quantization and not (self.quantization == NOT_YET and quantization):
            return "has base weights of another method: those of qlora are rounded to nf4, as in training"
        if manifest.get("chatTemplate") != self.chat_template:
            return "has another chat template than this job's base model"
        missing = [precision for precision in self.precisions if precision not in manifest.get("precisions", ())]
        return f"holds no {' and no '.join(missing)}" if missing else None


def _short(digest: object) -> str:
    return str(digest)[:19] if digest else "no digest"


def base_uri(named: str | None, output: str, identity: BaseIdentity) -> str:
    """Return where the base's artifact is: where the job says, by default beside its output.

    Args:
        named: `export.baseUri`.
        output: Where the adapter goes.
        identity: The base.
    """
    if named:
        folder = local_path(named)
        return named if folder is None else str(folder)
    parent, _, _ = output.rstrip("/").rpartition("/")
    return f"{parent}/{identity.folder_name}"


def relative_uri(base: str, output: str) -> str:
    """Return the base's place as an adapter's manifest names it: relative to the adapter, where both move together."""
    if scheme_of(base) != scheme_of(output):
        return base
    if scheme_of(base) == "file":
        return Path(os.path.relpath(local_path(base) or base, local_path(output) or output)).as_posix()
    first, second = base.partition("://")[2], output.partition("://")[2]
    if first.split("/")[0] != second.split("/")[0]:
        return base
    return posixpath.relpath(f"/{first}", f"/{second}")


def absolute_uri(place: str, output: str) -> str:
    """Return the URI or absolute path of a base that `relative_uri` has named."""
    if "://" in place:
        return place
    if (folder := local_path(output)) is not None:
        return os.path.normpath(folder / place)
    scheme, _, path = output.partition("://")
    return f"{scheme}:/{posixpath.normpath(f'/{path}/{place}')}"


def read_base(uri: str, identity: BaseIdentity) -> dict[str, Any] | None:
    """Return the manifest of the base at a URI; None if there is no complete artifact.

    Raises:
        StageError: OUTPUT_FAILED: another artifact is there.
    """
    place = f"{uri.rstrip('/')}/{MANIFEST}"
    if not storage.exists(place):
        return None
    with storage.open_source(place, Reason.OUTPUT_FAILED) as file:
        try:
            manifest: Any = json.load(file)
            problem = identity.problem(manifest)
        except (ValueError, AttributeError, TypeError):
            problem = "has a manifest.json that cannot be read"
    if problem:
        raise StageError(Reason.OUTPUT_FAILED, f"the artifact in {uri} {problem}", _ANOTHER)
    return dict(manifest)


def require_fitting_base(config: JobConfig, model: Mapping[str, Any], template: object) -> None:
    """Fail before training if the base that a job names is another one than it needs.

    Args:
        config: The job.
        model: `model` in the result of prepare.
        template: The base model's chat template, if it has one.

    Raises:
        StageError: OUTPUT_FAILED: another artifact is there.
    """
    uri = config.spec.export.base_uri
    if uri and not (os.environ.get(SKIP_OUTPUT_PROBE) and local_path(uri) is None):
        quantization = NOT_YET if METHODS[config.spec.method].is_quantized else None
        read_base(uri, BaseIdentity.of(config, model, template, quantization))
