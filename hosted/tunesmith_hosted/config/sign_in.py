"""How people sign in to the console, and what they may do there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Scope = Literal["files", "fine_tuning", "models", "inference", "usage", "admin"]

_USUAL: tuple[Scope, ...] = ("files", "fine_tuning", "inference", "models", "usage")


class Provider(BaseModel):
    """An OpenID Connect provider: Entra ID, Dex, Keycloak or any other.

    The provider must know the redirect URI `PUBLIC_URL/console/api/login/ID/callback`.

    Attributes:
        id: Its name in URLs.
        name: Its name for people; the id by default.
        issuer: URL of the issuer, below which `.well-known/openid-configuration` is.
        client_id: What the provider knows this service as.
        client_secret: The client's secret; empty for a public client.
        client_secret_file: A file with the secret, such as a mounted Secret.
        scopes: What is asked for.
        groups_claim: Claim with the person's groups.
        trusts_email: Whether an e-mail address counts that the provider does not say to be verified.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    name: Annotated[str, Field(max_length=64)] = ""
    issuer: Annotated[str, Field(pattern=r"^https?://")]
    client_id: str
    client_secret: str = ""
    client_secret_file: Path | None = None
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    groups_claim: str = "groups"
    trusts_email: bool = False

    def secret(self) -> str:
        """Return the client's secret.

        Raises:
            OSError: Its file cannot be read.
        """
        if self.client_secret_file is not None:
            return self.client_secret_file.read_text(encoding="utf-8").strip()
        return self.client_secret


class Grant(BaseModel):
    """What the people of a group, or with an e-mail address, may do in a project.

    Attributes:
        group: A group, as the provider names it.
        email: An address, or `@DOMAIN` for all of a domain.
        project: The project, as ORGANIZATION/NAME.
        scopes: What they may do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    group: str | None = None
    email: str | None = None
    project: Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]
    scopes: tuple[Scope, ...] = _USUAL

    @model_validator(mode="after")
    def _names_people(self) -> Grant:
        if (self.group is None) == (self.email is None):
            raise ValueError("write either group or email, to say whom the grant is for")
        return self

    def is_for(self, groups: frozenset[str], email: str | None) -> bool:
        """Return whether it is for a person.

        Args:
            groups: The person's groups.
            email: The person's address, if it is known to be theirs.
        """
        if self.group is not None:
            return self.group in groups
        if email is None or self.email is None:
            return False
        if self.email.startswith("@"):
            return email.lower().endswith(self.email.lower())
        return email.lower() == self.email.lower()


class SignIn(BaseModel):
    """Signing in.

    Attributes:
        providers: Who says who people are; without any, the console takes keys only.
        grants: What people may do. A person without a grant gets in nowhere.
        session_seconds: Seconds after which one has to sign in again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    providers: tuple[Provider, ...] = ()
    grants: tuple[Grant, ...] = ()
    session_seconds: Annotated[int, Field(gt=0)] = 12 * 3600

    @model_validator(mode="after")
    def _has_unique_ids(self) -> SignIn:
        ids = [provider.id for provider in self.providers]
        if twice := sorted({id for id in ids if ids.count(id) > 1}):
            raise ValueError(f"providers: {', '.join(twice)} is the id of several; give each its own")
        return self

    def provider(self, id: str) -> Provider | None:
        """Return the provider of an id."""
        return next((provider for provider in self.providers if provider.id == id), None)

    def scopes_of(self, groups: frozenset[str], email: str | None) -> dict[str, frozenset[str]]:
        """Return what a person may do, by project as ORGANIZATION/NAME."""
        found: dict[str, frozenset[str]] = {}
        for grant in self.grants:
            if grant.is_for(groups, email):
                found[grant.project] = found.get(grant.project, frozenset()) | frozenset(grant.scopes)
        return found
