"""The data set: sources, format, columns and the validation split."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.names import DNS_SUBDOMAIN


class DatasetFormat(StrEnum):
    """How a row becomes an example of its task."""

    AUTO = "auto"
    MESSAGES = "messages"
    PROMPT_COMPLETION = "promptCompletion"
    ALPACA = "alpaca"
    SHAREGPT = "sharegpt"
    TEXT = "text"
    PREFERENCE = "preference"
    OPENAI_PREFERENCE = "openaiPreference"
    TEXT_LABEL = "textLabel"
    TEXT_LABELS = "textLabels"
    TOKEN_TAGS = "tokenTags"  # noqa: S105 - not a password
    TEXT_SPANS = "textSpans"
    TRANSLATION = "translation"
    SOURCE_TARGET = "sourceTarget"
    SQUAD = "squad"


class ConfigMapKeyRef(SpecModel):
    """One key of a ConfigMap in the job's namespace."""

    name: str = Field(
        min_length=1,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Name of the ConfigMap.",
        examples=["my-data"],
    )
    key: str = Field(
        min_length=1,
        max_length=253,
        pattern=r"^[-._a-zA-Z0-9]*[-_a-zA-Z0-9][-._a-zA-Z0-9]*$",
        description="Key in the ConfigMap. Its ending (.jsonl, .json, .csv) says how it is read.",
        examples=["train.jsonl"],
    )


class DatasetSource(SpecModel):
    """Files of rows: one file, a folder, a pattern, or a data set on the Hugging Face hub."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.uri) != has(self.configMapKeyRef)",
            "exactly one of uri and configMapKeyRef must be set; write uri: ./data.jsonl, "
            "or configMapKeyRef: {name: my-data, key: train.jsonl}",
            lambda s: (s.uri is None) != (s.config_map_key_ref is None),
        ),
        Rule(
            "!(has(self.revision) || has(self.configuration) || has(self.split)) "
            "|| (has(self.uri) && self.uri.startsWith('hf://'))",
            "revision, configuration and split belong to hf:// data sets only; remove them, "
            "or write uri: hf://datasets/ORGANISATION/NAME",
            lambda s: (
                (s.revision is None and s.configuration is None and s.split is None)
                or (s.uri is not None and s.uri.startswith("hf://"))
            ),
        ),
    )

    uri: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        pattern=r"^((s3|abfs|abfss|az|gs|https?|file|memory)://.+|hf://datasets/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(/.+)?|([^:]|:[^:/]|:/[^/])+)$",
        description="A .jsonl, .json, .csv, .tsv or .parquet file (also .gz and .zst), a folder of them, or a pattern "
        "such as ./data/*.jsonl. A path, or an s3://, abfs://, gs://, https:// or file:// URI, or "
        "hf://datasets/ORGANISATION/NAME for a data set on the Hugging Face hub.",
        examples=["./data.jsonl"],
    )
    revision: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Branch, tag or commit of an hf:// data set. The commit it stands for is recorded in the manifest.",
        examples=["main"],
    )
    configuration: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Configuration (subset) of an hf:// data set; its default one if this is not set.",
        examples=["default"],
    )
    split: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Split of an hf:// data set; train if this is not set, or the only one.",
        examples=["train"],
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the file in lower-case hexadecimal; the job fails if the file has another.",
        examples=["0123456789abcdef" * 4],
    )
    config_map_key_ref: ConfigMapKeyRef | None = Field(
        default=None, description="A key of a ConfigMap, for small data sets that travel with the manifest."
    )


class ValidationSpec(SpecModel):
    """The rows that are kept out of training and used to evaluate it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.fraction) != has(self.sources)",
            "exactly one of fraction and sources must be set; write fraction: 0.05 to split rows off the data, "
            "or sources: [{uri: ./validation.jsonl}]",
            lambda v: (v.fraction is None) != (v.sources is None),
        ),
    )

    fraction: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Share of the rows that is kept out of training, between 0 and 1.",
        examples=[0.05],
    )
    sources: tuple[DatasetSource, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        description="Files of rows to validate on, in the same format.",
        examples=[[{"uri": "./validation.jsonl"}]],
    )


class DatasetSpec(SpecModel):
    """The rows to learn from."""

    sources: tuple[DatasetSource, ...] = Field(
        min_length=1,
        max_length=64,
        description="Files of rows, read one after the other.",
        examples=[[{"uri": "./data.jsonl"}]],
    )
    format: DatasetFormat = Field(
        default=DatasetFormat.AUTO,
        description="Format of the rows, or auto to recognise it. For textGeneration: messages, promptCompletion, "
        "alpaca, sharegpt, text, and with objective dpo preference, openaiPreference; sequenceClassification: "
        "textLabel, textLabels; tokenClassification: tokenTags, textSpans; translation: translation, sourceTarget; "
        "questionAnswering: squad.",
    )
    columns: dict[str, Annotated[str, Field(min_length=1, max_length=253)]] | None = Field(
        default=None,
        max_length=16,
        description="Names of the columns where they differ from the format's own: for example "
        "{prompt: question, completion: answer}; nested ones with dots: {prompt: translation.de}.",
    )
    system_turn: Literal["keep", "fold"] = Field(
        default="keep",
        description="What becomes of a system turn: keep renders it as the model's chat template does; fold puts it in "
        "front of the first user turn, for models whose template refuses one. The template that does so is part of the "
        "artifact, so the server treats requests alike.",
    )
    validation: ValidationSpec = Field(
        default=ValidationSpec(fraction=0.05),
        description="Rows to evaluate on; 5% of the data by default.",
    )
