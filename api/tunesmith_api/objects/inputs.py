"""What a job reads and writes, and the Secrets that it needs for that in a cluster."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from tunesmith_api.objects.cluster_only import ClusterOnly
from tunesmith_api.objects.pod_template import LocalObjectReference
from tunesmith_api.spec import DatasetSource, DatasetSpec, ModelSpec, OutputSpec, Rule, ValidationSpec

_SECRET = [{"name": "my-secret"}]


class JobModelSpec(ModelSpec):
    """The model to fine-tune: an existing one by `uri`, or a small new one by `scratch`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *ModelSpec.rules,
        Rule(
            "!has(self.secretRef) || has(self.uri)",
            "secretRef has no meaning with scratch; remove it, or write uri: hf://ORGANISATION/NAME",
            lambda m: m.secret_ref is None or m.uri is not None,
        ),
    )

    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret whose keys become variables of the prepare stage, to read the model: HF_TOKEN, "
            "AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, ... Without a cluster set the variables yourself.",
            examples=_SECRET,
        ),
    ] = None


class JobDatasetSource(DatasetSource):
    """One file of rows."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *DatasetSource.rules,
        Rule(
            "!has(self.secretRef) || has(self.uri)",
            "secretRef has no meaning with a ConfigMap; remove it, or write uri: s3://BUCKET/data.jsonl",
            lambda s: s.secret_ref is None or s.uri is not None,
        ),
    )

    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret whose keys become variables of the prepare stage, to read the file. "
            "Without a cluster set the variables yourself.",
            examples=_SECRET,
        ),
    ] = None


class JobValidationSpec(ValidationSpec):
    """The rows that are kept out of training and used to evaluate it."""

    sources: Annotated[
        tuple[JobDatasetSource, ...] | None,
        Field(
            min_length=1,
            max_length=64,
            description="Files of rows to validate on, in the same format.",
            examples=[[{"uri": "./validation.jsonl"}]],
        ),
    ] = None


class JobDatasetSpec(DatasetSpec):
    """The rows to learn from."""

    sources: Annotated[
        tuple[JobDatasetSource, ...],
        Field(
            min_length=1,
            max_length=64,
            description="Files of rows, read one after the other.",
            examples=[[{"uri": "./data.jsonl"}]],
        ),
    ]
    validation: Annotated[JobValidationSpec, Field(description="Rows to evaluate on; 5% of the data by default.")] = (
        JobValidationSpec(fraction=0.05)
    )


class JobOutputSpec(OutputSpec):
    """Where the artifact goes, and whether it outlives the job."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.secretRef) || has(self.uri)",
            "secretRef has no meaning without uri; remove it, or write uri: s3://BUCKET/ARTIFACT",
            lambda o: o.secret_ref is None or o.uri is not None,
        ),
        Rule(
            "self.retain || !has(self.uri)",
            "retain false removes the volume that the job makes for itself, and uri is elsewhere; "
            "remove retain, or remove uri",
            lambda o: o.retain or o.uri is None,
        ),
    )

    retain: Annotated[
        bool,
        Field(
            description="Whether the artifact stays when the FineTuneJob is deleted: then its volume stays. "
            "Concerns clusters only.",
        ),
        ClusterOnly(),
    ] = True
    secret_ref: Annotated[
        LocalObjectReference | None,
        Field(
            description="Secret whose keys become variables of the publish stage, to write to uri: "
            "AWS_ACCESS_KEY_ID, AZURE_STORAGE_ACCOUNT_KEY, ... Without a cluster set the variables yourself.",
            examples=_SECRET,
        ),
    ] = None
