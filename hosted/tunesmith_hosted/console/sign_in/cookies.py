"""The console's cookies: nothing but random numbers, of which the database has hashes."""

from __future__ import annotations

import hashlib
import secrets

from starlette.responses import Response

from tunesmith_hosted.config.settings import Settings

_BYTES = 32


class Cookies:
    """Names and attributes of cookies.

    Args:
        settings: The service's settings. Where its public URL is https, cookies are for this host alone and go nowhere
            without TLS.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_secure = settings.public_url.startswith("https://")
        prefix = "__Host-" if self._is_secure else ""
        self.session, self.attempt = f"{prefix}tunesmith-session", f"{prefix}tunesmith-sign-in"

    def set(self, response: Response, name: str, value: str, seconds: int) -> None:
        """Set a cookie that scripts cannot read and other sites' requests do not carry.

        It is Lax and not Strict: the browser comes back from the provider's site, and must have it then.
        """
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._is_secure, httponly=True, samesite="lax"
        )

    def remove(self, response: Response, name: str) -> None:
        """Remove a cookie."""
        response.delete_cookie(name, path="/", secure=self._is_secure, httponly=True, samesite="lax")


def new_secret() -> str:
    """Return a new random value for a cookie or a state."""
    return secrets.token_urlsafe(_BYTES)


def digest(value: str) -> str:
    """Return what the database has of a value. It has 256 random bits, so that a fast hash without salt is enough."""
    return hashlib.sha256(value.encode()).hexdigest()
