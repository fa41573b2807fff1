"""What asking through the hosted service costs: latency and throughput, as a ratio to asking the server directly.

The server is a process of its own, the service another, the clients a third with asyncio. Rounds alternate between
both; the table gives medians, so that a machine with other work distorts less.

    python tests/bench/hosted_routing.py                    # SmolLM2-135M's shape, about 5 minutes on 4 cores
    python tests/bench/hosted_routing.py --quick            # a tiny model, for which routing costs most: 1 minute
    python tests/bench/hosted_routing.py --tokens 64 --stream
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from support.serving_process import ServingProcess
from support.tiny_models import make_artifact
from tunesmith_hosted.models.names import base_workspace

CLIENTS = (1, 8, 32)
WORKSPACE = base_workspace("tiny")

# The service in a process of its own; the row of its base model is written as the reconciler would.
SERVICE = """
import sys
from pathlib import Path
from support.hosted import BASE, serving
from tunesmith_hosted.database.tables import ServedBase
quotas = {"requests_a_minute": None, "tokens_a_minute": None}
with serving(Path(sys.argv[1]), None, bases=[{**BASE, "artifact": "x"}], quotas=quotas) as hosted:
    async def add():
        async with hosted.sessions.begin() as session:
            session.add(ServedBase(name="tiny", workspace=sys.argv[3], wanted="awake", endpoint=sys.argv[2] + "/v1"))
    hosted.run(add())
    print(hosted.url, hosted.key, flush=True)
    sys.stdin.read()
"""


async def load(url: str, key: str, model: str, clients: int, requests: int, tokens: int, stream: bool) -> list[float]:
    """Ask from so many clients at once, and return the seconds of each request and of all at the end."""
    body = {
        "model": model, "messages": [{"role": "user", "content": "What is the learning rate?"}], "max_tokens": tokens,
        "temperature": 0, "stream": stream, "logit_bias": {"2": -100},
    }  # fmt: skip
    left = iter(range(requests))
    seconds: list[float] = []

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), headers={"Authorization": f"Bearer {key}"}
    ) as session:

        async def client() -> None:
            for _ in left:
                started = time.perf_counter()
                async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
                    text = await answer.read()
                    assert answer.status == 200, text
                seconds.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        return [*seconds, time.perf_counter() - started]


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tiny model")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--stream", action="store_true", help="stream the answers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=64, help="requests of a round, at least 4 a client")
    parser.add_argument("--threads", type=int, default=1, help="threads of the server")
    options = parser.parse_args()
    shape = {}
    if not options.quick:
        from bench.serving import SMOLLM2_135M

        shape = {**SMOLLM2_135M, "vocab_size": 2048}
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        artifact = make_artifact(folder / "model", precisions=("fp32",), **shape)
        given = ("--precision", "fp32", "--model-name", WORKSPACE, "--slots", "32", "--threads", str(options.threads))
        with ServingProcess(artifact, *given) as server:
            service = subprocess.Popen(
                [sys.executable, "-c", SERVICE, str(folder), server.url, WORKSPACE],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
            )  # fmt: skip
            try:
                assert service.stdout is not None
                url, key = service.stdout.readline().split()
                measure(options, (server.url, "none", WORKSPACE), (url, key, "tiny"))
            finally:
                service.communicate("")
    return 0


def measure(options: argparse.Namespace, direct: tuple[str, str, str], hosted: tuple[str, str, str]) -> None:
    """Print the table."""
    print("| clients | direct, ms | hosted, ms | added, ms | direct, requests/s | hosted, requests/s | ratio |")
    print("|---|---|---|---|---|---|---|")
    for clients in CLIENTS:
        found: dict[bool, list[list[float]]] = {False: [], True: []}
        count = max(options.requests, 4 * clients)
        for _ in range(options.rounds + 1):
            for through in (False, True):
                where = hosted if through else direct
                found[through].append(asyncio.run(load(*where, clients, count, options.tokens, options.stream)))
        latency, rate = {}, {}
        for through, rounds in found.items():
            latency[through] = statistics.median(statistics.median(times[:-1]) for times in rounds[1:]) * 1000
            rate[through] = statistics.median(count / times[-1] for times in rounds[1:])
        print(
            f"| {clients} | {latency[False]:.1f} | {latency[True]:.1f} | {latency[True] - latency[False]:.2f} | "
            f"{rate[False]:.1f} | {rate[True]:.1f} | {rate[True] / rate[False]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
