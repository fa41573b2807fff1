"""Clients as they should not be: slow, gone, half-open, wrong; for a server that must outlive them all."""

import asyncio
import contextlib
import json
import random
import re
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATHS = ("/v1/chat/completions", "/v1/completions", "/", "/tokenize", "/v2/models/model/infer")
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, 2**70, "", "\u0000", "x" * 5000, "\ud800", [], {}, [[]], [None], {"a": {"b": []}},
    [{"role": "user"}], [{"role": "user", "content": [{"type": "image_url"}]}], "None", ["x"] * 300,
)  # fmt: skip


@dataclass
class Chaos:
    """A load of bad clients, and good ones between them.

    Attributes:
        url: The server.
        expected: The text that a good client must get.
        draw: Chooses what happens.
        seen: How often what has happened.
        wrong: What the server did and should not have done.
    """

    url: str
    expected: str
    draw: random.Random
    seen: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def ask(self) -> tuple[int, str]:
        """Send a whole request; returns the status, and the text or what the server says is wrong."""
        body = {"model": "model", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
        status, answer = await self._exchange(request(self.url, PATHS[0], json.dumps(body).encode()))
        return status, json.loads(answer)["choices"][0]["message"]["content"] if status == 200 else str(answer[:200])

    async def good(self) -> None:
        """A whole request; the answer must be what it is without the others, or 429."""
        status, text = await self.ask()
        self.seen[f"good {status}"] += 1
        if status != 429 and (status, text) != (200, self.expected):
            self.wrong.append(f"a good request got {status} {text!r}, and not {self.expected!r}")

    async def bad_body(self) -> None:
        """A request that is wrong somewhere: any answer but a server error."""
        path = self.draw.choice(PATHS)
        status, answer = await self._exchange(request(self.url, path, bad_body(self.draw)))
        self.seen[f"bad body {status}"] += 1
        if status >= 500:
            self.wrong.append(f"{path} answered {status}: {answer[:200]!r}")

    async def bad_protocol(self) -> None:
        """Bytes that are not HTTP, or lie about their length."""
        content = self.draw.choice(BAD_PROTOCOL)
        with contextlib.suppress(OSError):
            async with self._connection() as (reader, writer):
                writer.write(content)
                writer.write_eof()
                await reader.read()
        self.seen["bad protocol"] += 1

    async def gone(self) -> None:
        """A client that leaves at some moment: in the head, in the body, before the answer or in the middle of it."""
        body = {"model": "model", "prompt": "Hello " * self.draw.randint(1, 40), "max_tokens": 40, "stream": True}
        content = request(self.url, "/v1/completions", json.dumps(body).encode())
        with contextlib.suppress(OSError):
            async with self._connection() as (reader, writer):
                moment = self.draw.random()
                if moment < 0.4:
                    writer.write(content[: self.draw.randint(0, len(content) - 1)])
                    await writer.drain()
                else:
                    writer.write(content)
                    await writer.drain()
                    if moment < 0.7:
                        await asyncio.sleep(self.draw.random() * 0.2)
                    else:
                        await reader.read(self.draw.randint(1, 2000))
                writer.transport.abort()
        self.seen["gone"] += 1

    async def slow(self) -> None:
        """A client that sends byte by byte and reads a few bytes at a time; it gets its whole answer."""
        body = json.dumps({"model": "model", "prompt": "Hello", "max_tokens": 8, "stream": True}).encode()
        content = request(self.url, "/v1/completions", body, close=True)
        async with self._connection() as (reader, writer):
            for start in range(0, len(content), 8):
                writer.write(content[start : start + 8])
                await writer.drain()
                await asyncio.sleep(0.002)
            answer = b""
            while part := await reader.read(40):
                answer += part
                await asyncio.sleep(0.001)
        self.seen["slow"] += 1
        if b" 200 " in answer[:20] and not answer.rstrip().endswith(b"0"):
            self.wrong.append(f"a slow client got half an answer: {answer[-200:]!r}")

    async def half_open(self, seconds: float) -> None:
        """A connection on which half a request comes, or nothing at all."""
        with contextlib.suppress(OSError):
            async with self._connection() as (_, writer):
                content = request(self.url, "/v1/completions", b'{"model": "model", "prompt": "Hello"}')
                writer.write(content[: self.draw.choice((0, 10, len(content) - 5))])
                await asyncio.sleep(seconds)
        self.seen["half open"] += 1

    async def run(self, going: Callable[[], bool], workers: int) -> None:
        """Let bad and good clients come until `going` returns False, `workers` at once."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            self.good, self.bad_body, self.bad_body, self.bad_protocol, self.gone, self.gone, self.slow,
        ]  # fmt: skip

        async def worker() -> None:
            while going():
                await self.draw.choice(kinds)()

        await asyncio.gather(*(worker() for _ in range(workers)))

    async def _exchange(self, content: bytes) -> tuple[int, bytes]:
        """Send a request and return the status and the body of the answer."""
        async with self._connection() as (reader, writer):
            writer.write(content)
            status = int((await reader.readline()).split()[1])
            length = 0
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            return status, await reader.readexactly(length)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        where = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            yield reader, writer
        finally:
            writer.close()


def request(url: str, path: str, body: bytes, close: bool = False) -> bytes:
    """Return a POST as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}{'Connection: close' if close else 'X: y'}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


BAD_PROTOCOL = (
    b"", b"\r\n\r\n", b"GET", b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{}",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\n{}\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /v1/models HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%00%ff%2e%2e/ HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip


def bad_body(draw: random.Random) -> bytes:
    """Return a body that is wrong somewhere, as far as chance will have it."""
    body: dict[str, Any] = {
        "model": "model", "messages": [{"role": "user", "content": "Hello"}], "prompt": "Hello", "inputs": "Hello",
        "max_tokens": 2, "temperature": 0.5, "stop": ["x"], "logit_bias": {"5": 1}, "n": 1, "stream": False,
        "parameters": {"max_new_tokens": 2}, "response_format": {"type": "text"}, "tools": [], "seed": 1,
    }  # fmt: skip
    for _ in range(draw.randint(1, 3)):
        body[draw.choice([*body, "unknown"])] = draw.choice(JUNK)
    content = json.dumps({key: value for key, value in body.items() if draw.random() < 0.8}).encode()
    if draw.random() < 0.3:
        place = draw.randrange(len(content) + 1)
        content = content[:place] + draw.choice((b"", b"\xff", b"[" * 3000, b"NaN", b'"')) + content[place + 1 :]
    return content


@dataclass(frozen=True)
class State:
    """What a server holds.

    Attributes:
        memory: Resident memory, in MiB.
        files: Open files, connections included.
        slots: Slots in use.
        waiting: Requests that wait.
    """

    memory: float
    files: int
    slots: float
    waiting: float


def state_of(url: str, pid: int) -> State:
    """Return what the server of a process holds."""
    metrics = urllib.request.urlopen(f"{url}/metrics", timeout=300).read().decode()
    memory = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert memory is not None
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    slots, waiting = (_metric(metrics, f"tunesmith_{name}") for name in ("slots_in_use", "queue_length"))
    return State(int(memory[1]) / 1024, files, slots, waiting)


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"there is no metric {name}"
    return float(found[1])
