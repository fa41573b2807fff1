"""The quickstart: run the manifests of this folder, ask the served model, and measure how well it answers.

Trains, exports, checks and serves by `tunesmith run -f examples/quickstart`, then asks through the OpenAI API: five
questions for a look, and for the measure 50 questions that training saw and 50 phrasings that it saw with other
fields only. The untrained model is asked the same. Ends with an error when fewer than 95% and 80% are exact.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import yaml
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
WORK = Path(".tunesmith")
TRAINED, KEPT_OUT = 0.95, 0.80
COUNT = 50
console = Console(highlight=False)


def rows(key: str) -> list[dict[str, str]]:
    """Return the rows of one key of the ConfigMap that the manifests read."""
    config_map = yaml.safe_load((HERE / "data.yaml").read_text())
    return [json.loads(line) for line in config_map["data"][key].splitlines()]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(run: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server is ready; end when the run has ended."""
    while True:
        if (code := run.poll()) is not None:
            sys.exit(code or 1)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)


def ask(client: openai.OpenAI, question: str) -> str:
    """Return the served model's answer, chosen greedily."""
    reply = client.chat.completions.create(
        model="quickstart", messages=[{"role": "user", "content": question}], temperature=0, max_tokens=128
    )
    return (reply.choices[0].message.content or "").strip()


def exact(client: openai.OpenAI, questions: list[dict[str, str]]) -> float:
    """Return the share of questions that the served model answers exactly."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda row: ask(client, row["prompt"]), questions))
    return sum(a == row["completion"].strip() for a, row in zip(answers, questions, strict=True)) / len(questions)


def exact_untrained(questions: list[dict[str, str]]) -> float:
    """Return the share of questions that the model answered exactly before it was trained."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = WORK / "default" / "quickstart" / "prepare" / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
        )
        for row in questions
    ]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    batch.pop("token_type_ids", None)
    with torch.inference_mode():
        output = model.generate(**batch, max_new_tokens=64, do_sample=False)
    answers = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(a.strip() == row["completion"].strip() for a, row in zip(answers, questions, strict=True)) / len(
        questions
    )


def main() -> int:
    """Run the quickstart and return the process exit code."""
    started = time.monotonic()
    port = free_port()
    command = [sys.executable, "-m", "tunesmith_cli", "run", "-f", str(HERE), "--port", str(port)]
    console.print(f"[bold]$ tunesmith run -f {os.path.relpath(HERE)} --port {port}[/bold]")
    with subprocess.Popen(command) as run:
        try:
            wait_until_ready(run, port)
            served = time.monotonic() - started
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
            trained, kept_out = rows("train.jsonl"), rows("validation.jsonl")

            table = Table(title="Five questions to the served model, in phrasings that it was not trained on")
            for column in ("question", "answer", "expected", ""):
                table.add_column(column)
            for row in kept_out[:: len(kept_out) // 5][:5]:
                answer = ask(client, row["prompt"])
                table.add_row(row["prompt"], answer, row["completion"], "✓" if answer == row["completion"] else "✗")
            console.print(table)

            seen, unseen = trained[:: len(trained) // COUNT][:COUNT], kept_out[:COUNT]
            shares = exact(client, seen), exact(client, unseen)
        finally:
            run.terminate()  # not SIGINT, which a shell's background jobs ignore
            run.wait()
    before = exact_untrained([*seen, *unseen])

    result = Table(title="Answered exactly, token for token")
    for column in ("questions", "untrained", "served int4 model", "wanted"):
        result.add_column(column)
    result.add_row(f"{len(seen)} that training saw", f"{before:.0%}", f"{shares[0]:.0%}", f"at least {TRAINED:.0%}")
    result.add_row(f"{len(unseen)} phrasings kept out", f"{before:.0%}", f"{shares[1]:.0%}", f"at least {KEPT_OUT:.0%}")
    console.print(result)
    console.print(f"Served after {served:.0f} s; everything in {time.monotonic() - started:.0f} s.")
    good = shares[0] >= TRAINED and shares[1] >= KEPT_OUT and before == 0
    if not good:
        console.print("[bold red]The model answers worse than wanted.[/bold red]")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
