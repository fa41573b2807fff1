"""What asking through the hosted service costs, as a ratio to asking the model's server itself; and what waking costs.

The service is `tunesmith hosted` as users start it, with limits, keys, usage and its log; the server is the one that it
has started. Clients are a process of their own, and ask for answers in whole and streamed. Rounds alternate between the
server and the service; the table gives medians, so that a machine with other work distorts less. Added time is that to
the first token, or of an answer in whole that to the answer.

Waking: the base model sleeps (replicas 0), and a streamed request wakes it. Beside it stands the server alone, started
as `tunesmith serve` does with the same options, and asked the same as soon as it is ready.

    python tests/bench/hosted_routing.py                  # SmolLM2-135M's shape: about 4 minutes on 2 cores
    python tests/bench/hosted_routing.py --shape tiny     # a tiny model, for which routing costs most: 1 minute
    python tests/bench/hosted_routing.py --only waking
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from bench.serving import SMOLLM2_135M
from support.hosted_command import Service, hosted_command
from support.serving_process import ServingProcess
from support.tiny_models import make_artifact
from tunesmith_hosted.models.names import base_workspace

CLIENTS = (1, 8, 32)
WORKSPACE = base_workspace("bench")
SHAPES = {"135m": {**SMOLLM2_135M, "vocab_size": 8192}, "tiny": {}}
IDLE_SECONDS = 5  # before a model falls asleep, where waking is measured
MANY = {"requests_a_minute": 1_000_000, "tokens_a_minute": 1_000_000_000}


@dataclass
class Sample:
    """What clients saw in one round: tokens per second, and milliseconds to each request's first token."""

    rate: float = 0.0
    first: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Side:
    """Where to ask, and what the model is called there."""

    url: str
    model: str
    key: str = "none"


async def ask(session: aiohttp.ClientSession, side: Side, tokens: int, stream: bool) -> float:
    """Ask for a text of so many tokens, and return the seconds to the first."""
    body = {
        "model": side.model, "prompt": "What is the learning rate?", "max_tokens": tokens, "temperature": 0,
        "stream": stream, "logit_bias": {"2": -100},  # 2 ends an answer
    }  # fmt: skip
    started, first = time.perf_counter(), None
    async with session.post(f"{side.url}/v1/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        async for _ in answer.content.iter_any():
            if first is None:
                first = time.perf_counter() - started
    assert first is not None
    return first


async def load(side: Side, clients: int, requests: int, tokens: int, stream: bool) -> Sample:
    """Ask from so many clients at once, each with a connection of its own."""
    left = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {side.key}"}) as session:

        async def client() -> list[float]:
            return [1000 * await ask(session, side, tokens, stream) for _ in left]

        started = time.perf_counter()
        first = await asyncio.gather(*(client() for _ in range(clients)))
        seconds = time.perf_counter() - started
    return Sample(requests * tokens / seconds, [value for values in first for value in values])


def settings_of(artifact: Path, precision: str, idle_seconds: float) -> dict[str, object]:
    """Return the settings of a service with one base model."""
    runtime = {"precision": precision, "maxBatchSize": 32, "maxQueueLength": 64, "contextLength": 256}
    base = {"name": "bench", "model": {"uri": "models/bench"}, "artifact": str(artifact)}
    return {
        "bases": [{**base, "workspace": {"runtime": runtime}}],
        "quotas": MANY,
        "idle_seconds": idle_seconds,
    }


def overhead(options: argparse.Namespace, service: Service) -> None:
    """Print the table of what routing costs."""
    through = Side(service.url, "bench", service.key)
    asyncio.run(load(through, 1, 1, 1, True))  # wakes it
    _, endpoint = service.base("bench")
    assert endpoint is not None
    direct = Side(endpoint.removesuffix("/v1"), WORKSPACE)
    print("| answers | clients | direct, tokens/s | hosted, tokens/s | ratio | direct, ms | hosted, ms | added, ms |")
    print("|---|---|---|---|---|---|---|---|")
    for stream in (True, False):
        for clients in options.clients:
            print(_row(options, direct, through, clients, stream), flush=True)


def _row(options: argparse.Namespace, direct: Side, through: Side, clients: int, stream: bool) -> str:
    count = max(options.requests, clients)
    samples: dict[Side, list[Sample]] = {direct: [], through: []}
    asyncio.run(load(through, clients, clients, options.tokens, stream))  # binds buffers, opens connections
    for number in range(options.rounds):
        for side in (direct, through) if number % 2 == 0 else (through, direct):
            samples[side].append(asyncio.run(load(side, clients, count, options.tokens, stream)))
    rate = {side: statistics.median(sample.rate for sample in all_) for side, all_ in samples.items()}
    first = {side: statistics.median(statistics.median(s.first) for s in all_) for side, all_ in samples.items()}
    ratio = statistics.median(
        b.rate / a.rate for a, b in zip(samples[direct], samples[through], strict=True)
    )  # of neighbors in time
    added = statistics.median(
        statistics.median(b.first) - statistics.median(a.first)
        for a, b in zip(samples[direct], samples[through], strict=True)
    )
    return (
        f"| {'streamed' if stream else 'whole'} | {clients} | {rate[direct]:.1f} | {rate[through]:.1f} | {ratio:.3f} | "
        f"{first[direct]:.1f} | {first[through]:.1f} | {added:+.2f} |"
    )


def waking(options: argparse.Namespace, artifact: Path, service: Service) -> None:
    """Print the table of what waking costs."""
    alone, woken = [], []
    given = ("--precision", options.precision, "--model-name", WORKSPACE, "--slots", "32", "--max-queue", "64")
    for _ in range(options.wakings):
        service.wait_asleep("bench")
        started = time.perf_counter()
        with ServingProcess(artifact, *given, "--context-length", "256") as server:
            asyncio.run(load(Side(server.url, WORKSPACE), 1, 1, 1, True))
            alone.append(time.perf_counter() - started)
        started = time.perf_counter()
        asyncio.run(load(Side(service.url, "bench", service.key), 1, 1, 1, True))
        woken.append(time.perf_counter() - started)
    first, second = statistics.median(alone), statistics.median(woken)
    print("| first token | the server alone, s | waking, s | ratio |\n|---|---|---|---|")
    print(f"| median of {options.wakings} | {first:.2f} | {second:.2f} | {second / first:.3f} |", flush=True)


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="135m", help="the model's; its weights are random")
    parser.add_argument("--precision", choices=["int4", "fp32"], default="int4")
    parser.add_argument("--only", choices=["overhead", "waking"])
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="clients at once")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--rounds", type=int, default=4, help="rounds; half of them begin with the server")
    parser.add_argument("--requests", type=int, default=16, help="requests of a round, at least one a client")
    parser.add_argument("--wakings", type=int, default=3, help="how often to wake the model")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = make_artifact(folder / "model", precisions=(options.precision,), **SHAPES[options.shape])
        for part, idle_seconds in (("overhead", 900), ("waking", IDLE_SECONDS)):
            if options.only not in (None, part):
                continue
            (here := folder / part).mkdir()
            with hosted_command(here, **settings_of(artifact, options.precision, idle_seconds)) as service:
                if part == "overhead":
                    overhead(options, service)
                else:
                    waking(options, artifact, service)
    print(f"{options.shape}, {options.precision}, {time.perf_counter() - begun:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
