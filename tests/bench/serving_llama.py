"""The server against llama.cpp's own, through HTTP: prompts of their own, prompts that share a prefix, conversations.

One random-weight Llama of SmolLM2-135M's shape, int4 (with `--batch-precision int8` also int8, for prompts and steps of
several tokens) against Q4_0, as many slots for both. Both answer the same requests in turns, in rounds, and ratios are
made within each round; the table gives medians. Answers are sampled at temperature 1, so that they do not repeat
themselves; with `--greedy` they are the most likely tokens, and random weights repeat themselves so much that prompt
lookup guesses well.

    python tests/bench/serving_llama.py            # 40 minutes on 2 cores; builds llama.cpp first (20 minutes)
    python tests/bench/serving_llama.py --vllm     # also against vLLM's CPU build, in bf16: it has no int4 of this form
    python tests/bench/serving_llama.py --quick    # a tiny model, one round: shows that everything runs
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "hack"))

from bench.serving import CLIENTS, SMOLLM2_135M, invented_words, keep_in_int8, make_models, start_server
from support import llama_cpp, vllm_cpu
from support.rival_servers import peak
from tunesmith_api.local.cpus import multiplies_bytes

SHARED, OWN = 384, 64
TURNS = 10
QUICK = {"vocab_size": 1024, "context_length": 2048}


@dataclass
class Sample:
    """One measurement: generated tokens a second, and the median of the seconds to first tokens."""

    speed: float
    first: float


async def ask(url: str, path: str, body: dict[str, Any]) -> AsyncIterator[tuple[float, dict[str, Any]]]:
    """Yield the events of a streamed answer with the seconds since the request."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    content = json.dumps({"model": "bench", "stream": True, "stream_options": {"include_usage": True}, **body}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {where.netloc}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    started = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
    status = await reader.readline()
    assert b" 200 " in status, status + await reader.read()
    while line := await reader.readline():
        if line.startswith(b"data: {"):
            yield time.perf_counter() - started, json.loads(line[6:])
    writer.close()


async def complete(url: str, prompt: list[int], sampling: dict[str, Any]) -> tuple[int, float]:
    """Return the tokens of a completion, and the seconds to the first."""
    first, tokens, event = None, 0, {}
    async for seconds, event in ask(url, "/v1/completions", {"prompt": prompt, **sampling}):
        first = seconds if first is None else first
        tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    assert first is not None and tokens, f"{url} did not answer to the end: {event}"
    return tokens, first


async def converse(url: str, system: str, questions: list[str], sampling: dict[str, Any]) -> list[tuple[int, float]]:
    """Hold a conversation; return the tokens of each answer, and the seconds to its first."""
    messages = [{"role": "system", "content": system}]
    answers = []
    for question in questions:
        messages.append({"role": "user", "content": question})
        first, tokens, text = None, 0, ""
        async for seconds, event in ask(url, "/v1/chat/completions", {"messages": messages, **sampling}):
            delta = event["choices"][0]["delta"].get("content") if event.get("choices") else None
            first = seconds if first is None and delta else first
            text += delta or ""
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
        messages.append({"role": "assistant", "content": text})
        answers.append((tokens, seconds if first is None else first))
    return answers


def sample(jobs: list[list[Callable[[], Any]]]) -> Sample:
    """Run the jobs of each client one after the other, the clients at once."""

    async def client(mine: list[Callable[[], Any]]) -> list[tuple[int, float]]:
        found: list[tuple[int, float]] = []
        for job in mine:
            answer = await job()
            found += answer if isinstance(answer, list) else [answer]
        return found

    async def run() -> list[list[tuple[int, float]]]:
        return await asyncio.gather(*map(client, jobs))

    started = time.perf_counter()
    answers = [answer for answers in asyncio.run(run()) for answer in answers]
    seconds = time.perf_counter() - started
    return Sample(sum(tokens for tokens, _ in answers) / seconds, statistics.median(first for _, first in answers))


@dataclass
class Load:
    """What the servers are asked; each round asks something else, so that nothing is known from the round before."""

    options: argparse.Namespace
    vocab_size: int
    words: list[str]

    def prompts(self, round_: int, clients: int, length: int) -> list[list[list[int]]]:
        """Token ids, different in each round, for each request of each client."""
        draw = random.Random(f"{round_} {clients} {length}")
        each = max(1, self.options.requests // clients)
        return [
            [[draw.randrange(300, self.vocab_size) for _ in range(length)] for _ in range(each)] for _ in range(clients)
        ]

    def sampling(self, tokens: int) -> dict[str, Any]:
        """Sampling parameters that both servers know."""
        return {"max_tokens": tokens, "temperature": 0 if self.options.greedy else 1}

    def own(self, url: str, round_: int, clients: int) -> Sample:
        """Prompts that share nothing."""
        wanted = self.sampling(self.options.new_tokens)
        prompts = self.prompts(round_, clients, OWN)
        return sample([[lambda p=p: complete(url, p, wanted) for p in mine] for mine in prompts])

    def shared(self, url: str, round_: int, clients: int) -> Sample:
        """Prompts that share all but their last tokens, with those of all rounds."""
        wanted = self.sampling(self.options.new_tokens // 2)
        (prefix,) = self.prompts(-1, 1, SHARED)[0][:1]
        prompts = self.prompts(round_, clients, OWN)
        return sample([[lambda p=p: complete(url, prefix + p, wanted) for p in mine] for mine in prompts])

    def chat(self, url: str, round_: int, clients: int) -> Sample:
        """Conversations after the same system prompt."""
        wanted = self.sampling(self.options.new_tokens // 4)
        system = " ".join(self.words[:60])
        jobs = []
        for index in range(clients):
            draw = random.Random(f"{round_} {index}")
            questions = [" ".join(draw.choices(self.words, k=8)) for _ in range(self.options.turns)]
            jobs.append([lambda questions=questions: converse(url, system, questions, wanted)])
        return sample(jobs)


def measure(options: argparse.Namespace, artifact: Path, sizes: dict[str, Any]) -> str:
    """Return the table as markdown."""
    context = sizes["context_length"]
    gguf = artifact.with_name(artifact.name + ".Q4_0.gguf")
    if not gguf.exists():
        llama_cpp.convert(artifact.with_name(artifact.name + ".hf"), gguf)
    load = Load(options, sizes["vocab_size"], " ".join(sizes["texts"][:5]).split())
    cases = {"own prompts": load.own, f"{SHARED} of {SHARED + OWN} tokens shared": load.shared}
    cases[f"{options.turns} turns of a chat"] = load.chat
    with ExitStack() as stack:
        server, ours = start_server(
            artifact, options.precision, max(CLIENTS), options.threads, context, options.batch_precision
        )
        stack.callback(server.wait)
        stack.callback(server.terminate)
        rivals = {"llama.cpp": llama_cpp.serving(gguf, max(CLIENTS), context, options.threads)}
        if options.vllm:
            model = artifact.with_name(artifact.name + ".hf")
            rivals["vLLM"] = vllm_cpu.serving(model, max(CLIENTS), context, options.threads)
        started = {name: stack.enter_context(rival) for name, rival in rivals.items()}
        urls = [ours, *(url for url, _ in started.values())]
        titles = ["", "clients", "tokens/s", *(f"{name} | ratio" for name in started), "first token", *started]
        lines = [f"| {' | '.join(titles)} |", "|---" * (4 + 3 * len(started)) + "|"]
        for name, case in cases.items():
            for clients in CLIENTS:
                rounds = []
                for round_ in range(options.rounds + 1):
                    order = urls if round_ % 2 else urls[::-1]
                    found = {url: case(url, round_ * 100 + clients, clients) for url in order}
                    rounds.append([found[url] for url in urls])
                lines.append(row(name, clients, rounds[1:]))  # the first round touches memory
                print(lines[-1], file=sys.stderr, flush=True)
        others = "".join(f", {name} {peak(pid):,.0f} MiB" for name, (_, pid) in started.items())
        memory = f"Peak memory: {peak(server.pid):,.0f} MiB{others}."
    return "\n".join([*lines, "", memory])


def row(name: str, clients: int, rounds: list[list[Sample]]) -> str:
    """A line of the table, of rounds in which each server was asked; ours is the first."""
    middle = statistics.median
    speeds = [f"{middle(sample.speed for sample in samples):.0f}" for samples in zip(*rounds, strict=True)]
    firsts = [f"{middle(sample.first for sample in samples) * 1000:.0f} ms" for samples in zip(*rounds, strict=True)]
    ratios = [middle(found[0].speed / found[n].speed for found in rounds) for n in range(1, len(speeds))]
    others = [f"{speed} | {ratio:.2f}" for speed, ratio in zip(speeds[1:], ratios, strict=True)]
    return f"| {' | '.join([name, str(clients), speeds[0], *others, *firsts])} |"


def main() -> None:
    """Build the models, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny model, one round")
    parser.add_argument("--greedy", action="store_true", help="always the most likely token")
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--batch-precision")
    parser.add_argument("--int4-block-size", type=int, help="weights that share a scale; 32 by default")
    parser.add_argument("--kv-cache", choices=["int8"], help="how keys and values are kept")
    parser.add_argument("--vllm", action="store_true", help="measure vLLM's CPU build too (6 GB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=2, help="requests of a measurement, at least one a client")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--work", type=Path, help="folder in which the models are kept for the next run")
    options = parser.parse_args()
    if options.quick and options.vllm:
        parser.error("--vllm needs the larger model: vLLM does not answer with the one of --quick")
    if options.batch_precision and not multiplies_bytes():
        print("This processor lacks what int8 needs: int4 computes prompts and many answers, too.", file=sys.stderr)
        options.batch_precision = None
    sizes: dict[str, Any] = dict(QUICK if options.quick else SMOLLM2_135M)
    sizes["texts"] = invented_words(sizes["vocab_size"])
    if options.quick:
        options.rounds, options.new_tokens, options.turns = 1, 16, 3
    with tempfile.TemporaryDirectory() as scratch:
        name = "quick" if options.quick else "smollm2-135m-random"
        name += f"-block-{options.int4_block_size}" if options.int4_block_size else ""
        artifact = (options.work or Path(scratch)) / (f"{name}-kv-int8" if options.kv_cache else name)
        if not (artifact / "manifest.json").exists():
            make_models(artifact, sizes, options.int4_block_size)
            if options.kv_cache:
                keep_in_int8(artifact, sizes["vocab_size"])
        print(measure(options, artifact, sizes))


if __name__ == "__main__":
    main()
