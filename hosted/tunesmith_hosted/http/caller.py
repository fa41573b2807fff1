"""Who makes a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from tunesmith_hosted.http.errors import ApiError


@dataclass(frozen=True)
class Caller:
    """The project of a request, and what its key may do.

    Attributes:
        organization_id: Id of the organisation.
        organization: Its name, the ORG of `ft:BASE:ORG:SUFFIX:ID`.
        project_id: Id of the project; every query is limited to it.
        namespace: Namespace of the project's objects.
        actor: Id of the key, or the subject of the session; for the audit log.
        scopes: What is allowed: `files`, `fine_tuning`, `models`, `inference`, `usage`, `admin`.
        quotas: The project's own limits, over `Settings.quotas`.
    """

    organization_id: str
    organization: str
    project_id: str
    namespace: str
    actor: str
    scopes: frozenset[str]
    quotas: Mapping[str, Any] = field(default_factory=dict, compare=False)


SCOPES = frozenset({"files", "fine_tuning", "models", "inference", "usage", "admin"})


def caller_of(request: Request) -> Caller:
    """Return who makes the request, as the authentication middleware has found.

    Raises:
        ApiError: Nobody: there is no key.
    """
    caller = getattr(request.state, "caller", None)
    if caller is None:
        raise ApiError(401, "Give an API key: Authorization: Bearer KEY", code="missing_api_key")
    return cast(Caller, caller)


def allowed(scope: str) -> Callable[[Caller], Caller]:
    """Return a dependency that gives the caller if its key has a scope."""

    def check(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
        if scope not in caller.scopes:
            message = f"This key lacks the scope {scope}; create a key that has it"
            raise ApiError(403, message, type="invalid_request_error", code="insufficient_scope")
        return caller

    return check
