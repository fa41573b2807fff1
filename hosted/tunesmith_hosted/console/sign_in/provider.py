"""Talks to OpenID Connect providers: discovery, the code's exchange, and the ID token."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tunesmith_hosted.config.sign_in import Provider

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
"""Signatures that are accepted; neither `none` nor one by a shared secret."""

_DISCOVERY = "/.well-known/openid-configuration"
_KEPT_SECONDS = 3600.0
_TIMEOUT_SECONDS = 10.0
_LEEWAY_SECONDS = 60
_MOST_GROUPS = 1000


class SignInError(Exception):
    """Somebody cannot be signed in. The message is for them; `detail` is for the log."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True)
class Person:
    """Who somebody is, as a provider says.

    Attributes:
        subject: The provider's id of the person.
        name: A name to show.
        email: The address, None where it is not known to be theirs.
        groups: Their groups.
    """

    subject: str
    name: str
    email: str | None
    groups: frozenset[str]


@dataclass(frozen=True)
class _Known:
    """What was discovered of a provider, until when."""

    metadata: Mapping[str, Any]
    keys: Any
    until: float


class Providers:
    """Asks providers, and remembers for an hour where they are and their keys."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, _Known] = {}

    async def url(self, provider: Provider, redirect_uri: str, *, state: str, nonce: str, verifier: str) -> str:
        """Return where somebody is sent to sign in.

        Raises:
            SignInError: The provider does not answer.
        """
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": provider.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(provider.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = str((await self._discovered(provider)).metadata["authorization_endpoint"])
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)

    async def person(self, provider: Provider, redirect_uri: str, *, code: str, nonce: str, verifier: str) -> Person:
        """Return who has come back from a provider with a code.

        Raises:
            SignInError: The provider takes the code for wrong, or its answer is.
        """
        known = await self._discovered(provider)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        form |= {"code_verifier": verifier, "client_id": provider.client_id}
        try:
            secret = provider.secret()
        except OSError as error:
            raise SignInError("The service is not set up for this provider", f"client_secret_file: {error}") from None
        methods = known.metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        auth = None
        if secret and "client_secret_basic" in methods:
            # RFC 6749, 2.3.1: both are form-encoded first.
            auth = httpx.BasicAuth(quote(provider.client_id, safe=""), quote(secret, safe=""))
        elif secret:
            form["client_secret"] = secret
        answer = await _ask("POST", str(known.metadata["token_endpoint"]), data=form, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise SignInError("The provider has not said who you are", "the answer has no id_token")
        return _person(provider, await self._claims(provider, token, nonce))

    async def _claims(self, provider: Provider, token: str, nonce: str) -> dict[str, Any]:
        known = await self._discovered(provider)
        try:
            decoded = jwt.decode(token, known.keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            # The provider may have other keys since.
            known = await self._discovered(provider, again=True)
            try:
                decoded = jwt.decode(token, known.keys, algorithms=ALGORITHMS)
            except (JoseError, ValueError) as error:
                raise SignInError("The provider's answer is not signed by it", repr(error)) from None
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": known.metadata["issuer"]},
            aud={"essential": True, "value": provider.client_id},
            sub={"essential": True},
            exp={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            registry.validate(decoded.claims)
        except JoseError as error:
            raise SignInError(
                "The provider's answer is for another service or too old; sign in again", repr(error)
            ) from None
        return dict(decoded.claims)

    async def _discovered(self, provider: Provider, *, again: bool = False) -> _Known:
        known = self._known.get(provider.id)
        if known is not None and not again and self._clock() < known.until:
            return known
        metadata = await _ask("GET", provider.issuer.rstrip("/") + _DISCOVERY)
        if metadata.get("issuer") != provider.issuer:
            detail = f"issuer is {provider.issuer!r} in the settings and {metadata.get('issuer')!r} at the provider"
            raise SignInError("The service is not set up for this provider", detail)
        keys = await _ask("GET", str(metadata["jwks_uri"]))
        try:
            key_set = KeySet.import_key_set(keys)  # type: ignore[arg-type]  # it checks them itself
        except (JoseError, ValueError, KeyError) as error:
            raise SignInError("The provider cannot be used", repr(error)) from None
        self._known[provider.id] = found = _Known(metadata, key_set, self._clock() + _KEPT_SECONDS)
        return found


def _person(provider: Provider, claims: Mapping[str, Any]) -> Person:
    email = claims.get("email")
    is_theirs = isinstance(email, str) and (claims.get("email_verified") is True or provider.trusts_email)
    groups = claims.get(provider.groups_claim)
    named = groups if isinstance(groups, list) else []
    name = claims.get("name") or claims.get("preferred_username") or email or claims["sub"]
    return Person(
        subject=str(claims["sub"])[:255],
        name=str(name)[:255],
        email=str(email)[:255] if is_theirs else None,
        groups=frozenset(str(group) for group in named[:_MOST_GROUPS]),
    )


async def _ask(method: str, url: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401 - of httpx
    """Return the JSON object that a provider answers."""
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_SECONDS) as client:
            answer = await client.request(method, url, headers={"accept": "application/json"}, **options)
        found = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise SignInError("The provider does not answer; try again later", f"{url}: {error!r}") from None
    if answer.status_code != 200 or not isinstance(found, dict):
        said = found.get("error") if isinstance(found, dict) else None
        raise SignInError("The provider has refused; sign in again", f"{url}: status {answer.status_code}, {said}")
    return found
