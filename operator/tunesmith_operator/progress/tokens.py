"""Authenticates reports: finds the pod of a service-account token by TokenReview, with a cache."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith_api.contract import PROGRESS_AUDIENCE
from tunesmith_operator.engine.kube.client import KubeClient
from tunesmith_operator.engine.kube.resources import TOKEN_REVIEW

_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
_ACCOUNT = "system:serviceaccount:"
_LONGEST_TOKEN = 8192


@dataclass(frozen=True)
class Caller:
    """The pod that a token was issued for.

    Attributes:
        namespace: Its namespace.
        pod: Its name.
        pod_uid: Its UID.
    """

    namespace: str
    pod: str
    pod_uid: str


class TokenReviewer:
    """Asks the API server for the pod of a token, and caches the answer.

    Args:
        client: The client.
        clock: Seconds since 1970.
        good_seconds: How long a valid token is cached at most; never beyond its expiry.
        bad_seconds: How long a refusal is cached.
        size: How many answers are cached.
    """

    def __init__(
        self,
        client: KubeClient,
        clock: Callable[[], float] = time.time,
        good_seconds: float = 300.0,
        bad_seconds: float = 30.0,
        size: int = 4096,
    ) -> None:
        self._client = client
        self._clock = clock
        self._good_seconds = good_seconds
        self._bad_seconds = bad_seconds
        self._size = size
        self._cache: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()

    async def caller(self, token: str) -> Caller | None:
        """Return the pod that a token was issued for; None if the token is not valid, or not a pod's.

        Raises:
            ApiError: The operator may not create TokenReviews.
            ApiUnreachableError: It did not answer.
        """
        now = self._clock()
        claims = _claims(token)
        # Unverified claims prove nothing, but a token for another audience need not be reviewed.
        if claims is None or not _is_for_us(claims) or (end := _number(claims.get("exp"))) <= now:
            return None
        key = hashlib.sha256(token.encode()).digest()
        if (known := self._cache.get(key)) is not None and known[0] > now:
            self._cache.move_to_end(key)
            return known[1]
        caller = await self._review(token)
        until = now + self._bad_seconds if caller is None else min(end, now + self._good_seconds)
        self._cache[key] = (until, caller)
        self._cache.move_to_end(key)
        while len(self._cache) > self._size:
            self._cache.popitem(last=False)
        return caller

    async def _review(self, token: str) -> Caller | None:
        body = {
            "apiVersion": TOKEN_REVIEW.api_version,
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [PROGRESS_AUDIENCE]},
        }
        answer = await self._client.request("POST", TOKEN_REVIEW.path(), body=body, attempts=2, seconds=4)
        status = answer.get("status") or {}
        # An API server without support for audiences returns none; then ours was not checked.
        if not status.get("authenticated") or PROGRESS_AUDIENCE not in (status.get("audiences") or ()):
            return None
        user = status.get("user") or {}
        name, extra = str(user.get("username") or ""), user.get("extra") or {}
        if not name.startswith(_ACCOUNT) or not extra.get(_POD_NAME) or not extra.get(_POD_UID):
            return None
        return Caller(name.removeprefix(_ACCOUNT).split(":", 1)[0], extra[_POD_NAME][0], extra[_POD_UID][0])


def _claims(token: str) -> dict[str, Any] | None:
    """Return the unverified claims of a JSON Web Token; None for any other text."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _LONGEST_TOKEN or not token.isascii():
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _is_for_us(claims: dict[str, Any]) -> bool:
    audience = claims.get("aud")
    return PROGRESS_AUDIENCE in (audience if isinstance(audience, list) else [audience])


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
