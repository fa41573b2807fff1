"""What servers answer about their adapters, and that one which does not answer holds nobody up."""

import asyncio
import json
from http.server import BaseHTTPRequestHandler

import pytest

from support.loopback_server import LoopbackServer, QuietHandler
from tunesmith_operator.inferenceworkspace.adapters.servers import ask_servers, parse_answer
from tunesmith_operator.inferenceworkspace.model import Answer


class Server(LoopbackServer):
    def __init__(self, status: int, body: str) -> None:
        self.status, self.body = status, body
        super().__init__(Handler)


class Handler(QuietHandler, BaseHTTPRequestHandler):
    owner: Server

    def do_GET(self) -> None:
        self.send(self.owner.status if self.path == "/adapters" else 500, self.owner.body.encode(), {})


def pod(name: str, address: str):
    return {"metadata": {"name": name}, "status": {"podIP": address}}


def asked(status: int, body: str, *others):
    with Server(status, body).serving() as server:
        port = int(server.endpoint.rpartition(":")[2])
        return asyncio.run(ask_servers([pod("here", "127.0.0.1"), *others], port))


def test_states_and_version():
    adapters = [
        {"name": "a", "digest": "sha256:1", "state": "Loaded", "message": None},
        {"name": "b", "digest": None, "state": "Failed", "message": "rank 99"},
    ]
    answers = asked(200, json.dumps({"version": "v1", "adapters": adapters}), pod("gone", "127.0.0.2"))
    assert answers["here"] == Answer("v1", {"a": ("Loaded", ""), "b": ("Failed", "rank 99")})
    assert "let the operator's pods reach port" in answers["gone"].problem
    assert parse_answer({"version": None, "adapters": []}) == Answer(None, {})


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, "{}", "does not know /adapters; its image is older"),
        (503, "{}", "answers 503"),
        (200, "[]", "has no list of adapters"),
        (200, "not JSON", "fails"),
        (200, '{"adapters": [{"name": "a", "state": "Odd"}]}', "has no state"),
    ],
)
def test_what_is_no_answer(status, body, said):
    (answer,) = asked(status, body).values()
    assert (answer.version, answer.states) == (None, {})
    assert said in answer.problem
