"""The certificate that pods trust: whole, for the right names, renewed in time."""

import dataclasses
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from tunesmith_operator.progress.certificates import is_good, issue
from tunesmith_operator.progress.secret import server_names
from tunesmith_operator.progress.service import _load

NAMES = ["progress.system.svc", "127.0.0.1"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_new_one_is_good_for_its_names_only() -> None:
    made = issue(NAMES)
    assert is_good(made, NAMES)
    assert is_good(made, NAMES[:1])
    assert not is_good(made, [*NAMES, "other"])


def test_it_is_renewed_before_its_end_by_the_same_authority() -> None:
    made = issue(NAMES, now=NOW)
    assert is_good(made, NAMES, NOW + timedelta(days=240))
    assert not is_good(made, NAMES, NOW + timedelta(days=250))
    again = issue(NAMES, made, NOW + timedelta(days=250))
    assert again.authority == made.authority
    assert again.server != made.server
    assert is_good(again, NAMES, NOW + timedelta(days=251))


def test_an_authority_that_ends_before_what_it_signs_is_replaced() -> None:
    made = issue(NAMES, now=NOW)
    again = issue(NAMES, made, NOW + timedelta(days=3400))
    assert again.authority != made.authority
    assert is_good(again, NAMES, NOW + timedelta(days=3400))


@pytest.mark.parametrize("field", ["authority", "authority_key", "server", "server_key"])
def test_what_is_broken_or_mixed_is_not_good(field: str) -> None:
    made = issue(NAMES)
    assert not is_good(dataclasses.replace(made, **{field: b"broken"}), NAMES)
    assert not is_good(dataclasses.replace(made, **{field: getattr(issue(NAMES), field)}), NAMES)


def test_strict_clients_take_it() -> None:
    made = issue(NAMES)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(server, made)
    client = ssl.create_default_context(cadata=made.authority.decode())
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    shake_hands(client, server, "progress.system.svc")
    shake_hands(client, server, "127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, "elsewhere")
    stranger = ssl.create_default_context(cadata=issue(NAMES).authority.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(stranger, server, "127.0.0.1")


def test_an_authority_signs_no_authorities() -> None:
    authority = x509.load_pem_x509_certificate(issue(NAMES).authority)
    constraints = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://p.ns.svc:8443", ["p", "p.ns", "p.ns.svc", "p.ns.svc.cluster.local"]),
        ("https://p.ns.svc.cluster.local", ["p", "p.ns", "p.ns.svc", "p.ns.svc.cluster.local"]),
        ("https://127.0.0.1:9443/x", ["127.0.0.1"]),
        ("https://progress.example.com", ["progress.example.com"]),
    ],
)
def test_the_names_of_a_url(url: str, names: list[str]) -> None:
    assert server_names(url, "cluster.local") == names


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Let the two make a TLS connection in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
                ends.remove(end)
            except ssl.SSLWantReadError:
                pass
        if not ends:
            return
    raise AssertionError("no handshake")
