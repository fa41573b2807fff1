"""ID tokens: what a provider has signed for this service and this sign-in is taken, and nothing else."""

import asyncio
import time
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from tunesmith_hosted.config.sign_in import Provider, SignIn
from tunesmith_hosted.console.sign_in import provider as module
from tunesmith_hosted.console.sign_in.provider import Person, Providers, SignInError

ISSUER = "https://id.example"
PROVIDER = Provider(id="company", issuer=ISSUER, client_id="console", client_secret="secret")
KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})
GOOD = {"iss": ISSUER, "aud": "console", "sub": "id-1", "nonce": "n", "name": "Ada", "email": "ada@example.com"}


def ask(monkeypatch: pytest.MonkeyPatch, provider: Provider, token: Any) -> Person:
    """Let a provider answer with a token, and return who that is."""

    async def answer(method: str, url: str, **options: Any) -> dict[str, Any]:
        if url.endswith("openid-configuration"):
            return {"issuer": ISSUER, "token_endpoint": f"{ISSUER}/token", "jwks_uri": f"{ISSUER}/keys"}
        if url.endswith("keys"):
            return dict(KeySet([KEY]).as_dict(private=False))
        assert options["data"]["code_verifier"] == "v"
        return {} if token is None else {"id_token": token}

    monkeypatch.setattr(module, "_ask", answer)
    return asyncio.run(Providers().person(provider, "https://here/callback", code="c", nonce="n", verifier="v"))


def signed(key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
    content = {**GOOD, "exp": int(time.time()) + 300, **claims}
    given = {name: value for name, value in content.items() if value is not None}
    return jwt.encode({"alg": algorithm, "kid": "one"}, given, key, algorithms=[algorithm])


def test_a_good_token_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    person = ask(monkeypatch, PROVIDER, signed(email_verified=True, groups=["a", "b"]))
    assert person == Person("id-1", "Ada", "ada@example.com", frozenset({"a", "b"}))


@pytest.mark.parametrize(
    "token",
    [
        signed(aud="another"),
        signed(iss="https://other.example"),
        signed(nonce="old"),
        signed(nonce=None),
        signed(exp=int(time.time()) - 3600),
        signed(exp=None),
        signed(key=OTHER),
        signed(key=OctKey.import_key("a secret that both could know" * 2), algorithm="HS256"),
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJpZC0xIn0.",
        "no token",
        None,
    ],
    ids=["audience", "issuer", "nonce", "no-nonce", "old", "no-end", "key", "secret", "unsigned", "text", "missing"],
)
def test_any_other_is_refused(monkeypatch: pytest.MonkeyPatch, token: Any) -> None:
    with pytest.raises(SignInError):
        ask(monkeypatch, PROVIDER, token)


def test_an_address_counts_only_if_it_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, PROVIDER, signed()).email is None
    assert ask(monkeypatch, PROVIDER, signed(email_verified=False)).email is None
    trusting = PROVIDER.model_copy(update={"trusts_email": True})
    assert ask(monkeypatch, trusting, signed()).email == "ada@example.com"


def test_grants_are_for_groups_addresses_and_domains() -> None:
    grants = [
        {"group": "team", "project": "acme/one", "scopes": ["files"]},
        {"email": "@example.com", "project": "acme/one", "scopes": ["usage"]},
        {"email": "Ada@example.com", "project": "acme/two", "scopes": ["admin"]},
    ]
    settings = SignIn.model_validate({"grants": grants})
    assert settings.scopes_of(frozenset({"team"}), None) == {"acme/one": {"files"}}
    both = settings.scopes_of(frozenset({"team"}), "ada@EXAMPLE.com")
    assert both == {"acme/one": {"files", "usage"}, "acme/two": {"admin"}}
    assert settings.scopes_of(frozenset(), "ada@example.com.evil") == {}
    assert settings.scopes_of(frozenset(), "eve@notexample.com") == {}
