"""What users may add to the pods that are made for them: a typed part of a pod, merged last."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec import ConfigMapKeyRef, Rule, SpecModel
from tunesmith_api.spec.names import DNS_SUBDOMAIN

_LABEL_VALUE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
_KEY = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"

LabelValue = Annotated[str, Field(max_length=63, pattern=_LABEL_VALUE)]
Labels = Annotated[dict[str, LabelValue], Field(max_length=64)]
"""Labels, or the labels that something must have."""


class LocalObjectReference(SpecModel):
    """An object of the same namespace, by its name."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Its name.", examples=["my-secret"]),
    ]


class SecretKeyRef(SpecModel):
    """One key of a Secret in the same namespace."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="Name of the Secret.",
            examples=["my-secret"],
        ),
    ]
    key: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[-._a-zA-Z0-9]+$",
            description="Key in the Secret.",
            examples=["token"],
        ),
    ]


class EnvVarSource(SpecModel):
    """Where the value of a variable comes from."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.secretKeyRef) != has(self.configMapKeyRef)",
            "exactly one of secretKeyRef and configMapKeyRef must be set; write secretKeyRef: {name: my-secret, "
            "key: token}, or configMapKeyRef: {name: my-settings, key: url}",
            lambda s: (s.secret_key_ref is None) != (s.config_map_key_ref is None),
        ),
    )

    secret_key_ref: Annotated[SecretKeyRef | None, Field(description="A key of a Secret.")] = None
    config_map_key_ref: Annotated[ConfigMapKeyRef | None, Field(description="A key of a ConfigMap.")] = None


class EnvVar(SpecModel):
    """An environment variable."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.value) != has(self.valueFrom)",
            "exactly one of value and valueFrom must be set; write value: TEXT, "
            "or valueFrom: {secretKeyRef: {name: my-secret, key: token}}",
            lambda e: (e.value is None) != (e.value_from is None),
        ),
    )

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            description="Name of the variable.",
            examples=["HTTPS_PROXY"],
        ),
    ]
    value: Annotated[str | None, Field(max_length=8192, description="Its value.", examples=["some text"])] = None
    value_from: Annotated[EnvVarSource | None, Field(description="Where its value comes from.")] = None


class Toleration(SpecModel):
    """A taint that pods tolerate."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || self.operator == 'Exists'",
            "a toleration without key is for every taint; write operator: Exists, or the key of the taint",
            lambda t: t.key is not None or t.operator == "Exists",
        ),
        Rule(
            "!has(self.value) || self.operator == 'Equal'",
            "value has no meaning with operator: Exists; remove it, or write operator: Equal",
            lambda t: t.value is None or t.operator == "Equal",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "tolerationSeconds belongs to effect: NoExecute only; remove it, or write effect: NoExecute",
            lambda t: t.toleration_seconds is None or t.effect == "NoExecute",
        ),
    )

    key: Annotated[
        str | None,
        Field(min_length=1, max_length=316, pattern=_KEY, description="Key of the taint.", examples=["sku"]),
    ] = None
    operator: Annotated[
        Literal["Equal", "Exists"], Field(description="Equal (the value must be the same) or Exists (any value).")
    ] = "Equal"
    value: Annotated[
        str | None, Field(max_length=63, pattern=_LABEL_VALUE, description="Value of the taint.", examples=["gpu"])
    ] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="Effect of the taint; every effect when it is left out."),
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=0, le=604_800, description="Seconds that a NoExecute taint is tolerated.")
    ] = None


class PodTemplateSpec(SpecModel):
    """Additions to the pods, merged last: for identities, meshes, proxies and policies of a cluster."""

    labels: Annotated[
        Labels | None,
        Field(description="Labels to add; Tunesmith's own stay.", examples=[{"azure.workload.identity/use": "true"}]),
    ] = None
    annotations: Annotated[
        dict[str, Annotated[str, Field(max_length=8192)]] | None,
        Field(
            max_length=64,
            description="Annotations to add; Tunesmith's own stay.",
            examples=[{"sidecar.istio.io/inject": "false"}],
        ),
    ] = None
    service_account_name: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=253,
            pattern=DNS_SUBDOMAIN,
            description="ServiceAccount of the pods, for workload identity. Its token for the Kubernetes API is not "
            "mounted.",
            examples=["my-identity"],
        ),
    ] = None
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...] | None,
        Field(max_length=16, description="Secrets of image registries.", examples=[[{"name": "my-registry"}]]),
    ] = None
    env: Annotated[
        tuple[EnvVar, ...] | None,
        Field(
            max_length=64,
            description="Environment variables to add to every container; one of a name that is there replaces it.",
            examples=[[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}]],
        ),
    ] = None
