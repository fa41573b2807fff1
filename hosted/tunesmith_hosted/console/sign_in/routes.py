"""`/console/api/login` and `/console/api/logout`: people sign in and out.

Requests with the session's cookie that change something must have the header `X-Tunesmith-Console`, with any value:
pages of other sites cannot send it.
"""

from __future__ import annotations

import logging
from typing import Annotated, cast

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from tunesmith_hosted.config.sign_in import Provider
from tunesmith_hosted.console.pages import message_page
from tunesmith_hosted.console.sign_in.attempts import SECONDS, add_attempt, safe_path, take_attempt
from tunesmith_hosted.console.sign_in.cookies import Cookies
from tunesmith_hosted.console.sign_in.provider import Providers, SignInError
from tunesmith_hosted.console.sign_in.sessions import end_session, start_session
from tunesmith_hosted.http.context import Context, ContextOf
from tunesmith_hosted.http.errors import not_found

router = APIRouter(prefix="/console/api", tags=["console"], include_in_schema=False)

_log = logging.getLogger(__name__)


def _providers(request: Request) -> Providers:
    state = request.app.state
    if not hasattr(state, "providers"):
        state.providers = Providers()
    return cast(Providers, state.providers)


def _provider(context: Context, id: str) -> Provider:
    provider = context.settings.sign_in.provider(id)
    if provider is None:
        raise not_found("provider", id, param="provider")
    return provider


def _redirect_uri(context: Context, provider: Provider) -> str:
    return f"{context.settings.public_url.rstrip('/')}/console/api/login/{provider.id}/callback"


@router.get("/login/{provider}")
async def login(
    request: Request, provider: str, context: ContextOf, next: Annotated[str, Query()] = "/console/"
) -> Response:
    """Send somebody to a provider."""
    known = _provider(context, provider)
    cookies = Cookies(context.settings)
    async with context.sessions.begin() as session:
        attempt = await add_attempt(session, known.id, safe_path(next))
    try:
        url = await _providers(request).url(
            known,
            _redirect_uri(context, known),
            state=attempt.state,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
        )
    except SignInError as error:
        return _refused(error, 503)
    response = RedirectResponse(url, 303, headers={"cache-control": "no-store"})
    cookies.set(response, cookies.attempt, attempt.browser, SECONDS)
    return response


@router.get("/login/{provider}/callback")
async def callback(
    request: Request, provider: str, context: ContextOf, state: str = "", code: str = "", error: str = ""
) -> Response:
    """Let somebody in who has come back from a provider."""
    known = _provider(context, provider)
    cookies = Cookies(context.settings)
    try:
        async with context.sessions.begin() as session:
            attempt = await take_attempt(session, known.id, state, request.cookies.get(cookies.attempt, ""))
        if error or not code:
            raise SignInError("The provider has not let you in; sign in again", f"error={error!r}")
        person = await _providers(request).person(
            known, _redirect_uri(context, known), code=code, nonce=attempt.nonce, verifier=attempt.verifier
        )
        async with context.sessions.begin() as session:
            value = await start_session(session, context.settings, known.id, person)
    except SignInError as refusal:
        response = _refused(refusal, 403)
        cookies.remove(response, cookies.attempt)
        return response
    response = RedirectResponse(attempt.next, 303, headers={"cache-control": "no-store"})
    cookies.remove(response, cookies.attempt)
    cookies.set(response, cookies.session, value, context.settings.sign_in.session_seconds)
    return response


@router.post("/logout")
async def logout(request: Request, context: ContextOf) -> Response:
    """End the session of the browser."""
    cookies = Cookies(context.settings)
    value = request.cookies.get(cookies.session)
    if value:
        async with context.sessions.begin() as session:
            await end_session(session, context.settings, value)
    response = Response(status_code=204)
    cookies.remove(response, cookies.session)
    return response


def _refused(error: SignInError, status: int) -> Response:
    if error.detail:
        _log.warning("somebody cannot sign in: %s", error.detail)
    return message_page("You are not signed in", str(error), status)
