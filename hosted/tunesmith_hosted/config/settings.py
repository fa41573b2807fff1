"""Settings of the service: a YAML file, and environment variables over it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith_hosted.config.bases import BaseModelSettings, check_names
from tunesmith_hosted.config.cluster import ClusterSettings
from tunesmith_hosted.config.sign_in import SignIn

PREFIX = "TUNESMITH_HOSTED_"


class SettingsError(Exception):
    """The settings are wrong. The message names the field and what to write."""


class Quotas(BaseModel):
    """The limits of a project, unless its own row has others. None means without limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jobs_at_once: int | None = 4
    gpu_hours_a_month: float | None = None
    stored_bytes: int | None = 100 * 2**30
    requests_a_minute: int | None = 600
    tokens_a_minute: int | None = 200_000


class Settings(BaseModel):
    """What an administrator decides.

    Attributes:
        database: SQLAlchemy URL: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
        files: Where files are stored: a URI of fsspec (`s3://`, `abfs://`, `gs://`), or on one machine a folder.
        backend: `local` runs jobs and servers on this machine, `cluster` through the Kubernetes API.
        work: Folder of the work of the local backend.
        namespace_prefix: A project's namespace is this and the project's name.
        public_url: URL that clients use, for links in answers.
        bases: The models that can be asked and fine-tuned.
        quotas: Limits of projects.
        machines: The cluster's machines, as the chart's value `machines` has them; usual AKS sizes by default.
        sign_in: How people sign in to the console; without it, the console takes keys.
        max_file_bytes: The largest file.
        min_examples: The fewest rows of a training file.
        upload_seconds: Seconds after which an unfinished upload expires.
        idle_seconds: Seconds without a request after which a fine-tuned model sleeps.
        reconcile_seconds: Seconds between two looks at the backend.
        drain_seconds: Seconds in which requests under way may finish when the service is asked to stop.
        cluster: How projects live on a cluster.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    database: str = "sqlite:///hosted/tunesmith.db"
    files: str = "hosted/files"
    backend: Literal["local", "cluster"] = "local"
    work: Path = Path(".tunesmith")
    namespace_prefix: str = "tunesmith-"
    public_url: str = "http://127.0.0.1:8080"
    bases: tuple[BaseModelSettings, ...] = ()
    quotas: Quotas = Quotas()
    machines: tuple[dict[str, Any], ...] = ()
    sign_in: SignIn = SignIn()
    max_file_bytes: Annotated[int, Field(gt=0)] = 8 * 2**30
    min_examples: Annotated[int, Field(gt=0)] = 10
    upload_seconds: Annotated[int, Field(gt=0)] = 3600
    idle_seconds: Annotated[float, Field(gt=0)] = 900
    reconcile_seconds: Annotated[float, Field(gt=0)] = 1
    drain_seconds: Annotated[int, Field(gt=0)] = 10
    cluster: ClusterSettings = ClusterSettings()

    def check_serving(self) -> None:
        """Check what serving needs beyond the other commands.

        Raises:
            SettingsError: Pods would have to read files from a folder of the service.
        """
        if self.backend == "cluster" and "://" not in self.files:
            raise SettingsError(
                f"files: {self.files} is a folder, which pods cannot read; write s3://, abfs:// or gs:// on a cluster"
            )

    def base(self, name: str) -> BaseModelSettings | None:
        """Return the base model of a public name or alias."""
        return next((base for base in self.bases if name == base.name or name in base.aliases), None)


def load_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of a file, with `TUNESMITH_HOSTED_FIELD` of the environment over them.

    Raises:
        SettingsError: The file cannot be read, or a value is wrong.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"{path}: {error}") from None
        if not isinstance(given, dict):
            raise SettingsError(f"{path} must hold a mapping of settings, such as `backend: local`")
    for field in Settings.model_fields:
        value = environment.get(PREFIX + field.upper())
        if value is not None:
            structured = {"bases", "quotas", "machines", "sign_in", "cluster"}
            given[field] = yaml.safe_load(value) if field in structured else value
    try:
        settings = Settings.model_validate(given)
        check_names(settings.bases)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{path or 'environment'}: {where}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise SettingsError(f"{path or 'environment'}: bases: {error}") from None
    return settings
