"""The fields that every Kubernetes object has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tunesmith_api.spec import SpecModel

GROUP = "tunesmith.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"


class ObjectMeta(BaseModel):
    """Name, namespace and labels of an object. Kubernetes owns the rest, which is let through."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    name: Annotated[
        str,
        Field(
            min_length=1, max_length=63, pattern=_DNS_SUBDOMAIN, description="Name of the object.", examples=["my-name"]
        ),
    ]
    namespace: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=63,
            pattern=_DNS_SUBDOMAIN,
            description="Namespace of the object.",
            examples=["default"],
        ),
    ] = None
    labels: Annotated[
        dict[str, str] | None, Field(description="Labels of the object.", examples=[{"team": "search"}])
    ] = None
    annotations: Annotated[
        dict[str, str] | None, Field(description="Annotations of the object.", examples=[{"owner": "search"}])
    ] = None
    generation: Annotated[int | None, Field(description="Number of the spec's newest version.")] = None
    uid: Annotated[str | None, Field(description="Unique identity of the object.")] = None


class StatusModel(BaseModel):
    """Base of statuses: camelCase names; unknown fields, of other versions, are accepted."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="allow")

    def to_api(self) -> dict[str, Any]:
        """Return the status as it is stored: camelCase, unset fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class ApiObject(SpecModel):
    """What objects of both kinds have in common."""

    model_config = ConfigDict(frozen=False)

    api_version: Annotated[Literal["tunesmith.dev/v1alpha1"], Field(description="Version of the API.")] = (
        "tunesmith.dev/v1alpha1"
    )
    kind: Annotated[str, Field(description="Kind of the object.")]
    metadata: Annotated[ObjectMeta, Field(description="Name, namespace and labels.", examples=[{"name": "my-name"}])]
