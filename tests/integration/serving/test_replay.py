"""The replay answers as the server does, with the server's code, and without its HTTP framework."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from support.serving_process import ServingProcess
from tunesmith_api.contract import REPLAY_MODULE, SERVER_INVALID_ARTIFACT

WORDS = ["tune", "smith", "rank", "alpha", "epoch", "batch", "loss", "gate", "slot", "token", "shard", "merge"]
CHATS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": f"What is {word}?"}], "max_tokens": 3 + 2 * index, "temperature": 0}
    for index, word in enumerate(WORDS)
]
OTHERS: list[dict[str, Any]] = [
    {"prompt": "The learning rate is", "max_tokens": 6, "temperature": 0},
    {"prompt": [5, 80, 33], "max_tokens": 4, "temperature": 0},
    {"messages": [{"role": "system", "content": "Be <|im_end|> brief."}, {"role": "user", "content": "a\u00a0é🙂"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]},
]
BLOCKED = ("fastapi", "starlette", "uvicorn", "prometheus_client", "torch", "transformers")
PROGRAM = f"""
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BLOCKED!r}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Block())
sys.argv[0] = {REPLAY_MODULE!r}
runpy.run_module({REPLAY_MODULE!r}, run_name="__main__")
"""


def run(artifact: Path, lines: list[Any], *options: str, program: tuple[str, ...] = ("-m", REPLAY_MODULE)) -> Any:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    command = [sys.executable, *program, "--artifact", str(artifact), "--threads", "1", *options]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=300, check=False)


def replay(artifact: Path, lines: list[Any], *options: str, **keywords: Any) -> list[dict[str, Any]]:
    done = run(artifact, lines, *options, **keywords)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_answers_as_the_server_does(artifact: Path, server: ServingProcess, client: openai.OpenAI) -> None:
    lines = [{"request": request, "generate": "max_tokens" in request} for request in CHATS + OTHERS]
    answers = replay(artifact, lines, "--precision", "fp32", "--slots", "3")
    assert len(answers) == len(lines)
    for request, answer in zip(CHATS + OTHERS, answers, strict=True):
        create = client.chat.completions.create if "messages" in request else client.completions.create
        found = create(model="tiny", **{"max_tokens": 1, "temperature": 0, **request})
        assert found.usage.prompt_tokens == len(answer["promptIds"])
        if "max_tokens" in request:
            choice = found.choices[0]
            text = choice.message.content if "messages" in request else choice.text
            assert (answer["text"], answer["finishReason"]) == (text, choice.finish_reason)
            assert len(answer["tokenIds"]) == found.usage.completion_tokens
        else:
            assert set(answer) == {"promptIds"}
    assert answers[len(CHATS) + 1]["promptIds"] == [5, 80, 33]


def test_the_same_requests_get_the_same_tokens_in_int4(artifact: Path) -> None:
    lines = [{"request": {**request, "max_tokens": 40}, "generate": True} for request in CHATS]
    first = replay(artifact, lines, "--precision", "int4", "--slots", "5")
    assert sum(len(answer["tokenIds"]) for answer in first) > 200
    assert replay(artifact, lines, "--precision", "int4", "--slots", "5") == first


def test_it_needs_no_http_framework_and_no_torch(artifact: Path) -> None:
    lines = [{"request": CHATS[0], "generate": True}]
    (plain,) = replay(artifact, lines, "--precision", "fp32")
    assert replay(artifact, lines, "--precision", "fp32", program=("-c", PROGRAM)) == [plain]
    server = ("-c", PROGRAM.replace(REPLAY_MODULE, "tunesmith_serving"))
    done = run(artifact, [], "--precision", "fp32", "--port", "0", program=server)
    assert "is blocked" in done.stderr, "the block blocks nothing"


def test_a_request_that_the_server_refuses_gets_its_error_and_the_others_their_answers(artifact: Path) -> None:
    bad: list[tuple[dict[str, Any], str]] = [
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"prompt": [5, 99999], "max_tokens": 2}, "token id outside"),
        ({"prompt": [5] * 600, "max_tokens": 2}, "600 tokens"),
        ({"prompt": "half \ud83d a character", "max_tokens": 2}, "surrogate"),
    ]
    requests = [request for request, _ in bad] + [CHATS[0]]
    *refused, answered = replay(artifact, [{"request": r, "generate": True} for r in requests], "--precision", "fp32")
    for (_, message), answer in zip(bad, refused, strict=True):
        assert message in answer["error"]
    assert answered["finishReason"] in ("stop", "length")


@pytest.mark.parametrize("line", ["{", '{"request": []}', '{"request": {}, "more": 1}'])
def test_a_line_that_is_no_request_ends_it(artifact: Path, line: str) -> None:
    done = run(artifact, [{"request": CHATS[0]}, line], "--precision", "fp32")
    assert done.returncode == SERVER_INVALID_ARTIFACT
    assert "line 2 of the requests is " in done.stderr


def test_an_artifact_that_cannot_be_served_is_refused(artifact: Path, tmp_path: Path) -> None:
    done = run(tmp_path, [], "--precision", "fp32")
    assert done.returncode == SERVER_INVALID_ARTIFACT
    assert "has no manifest.json" in done.stderr


def test_a_template_that_writes_the_date_takes_the_given_time(tmp_path: Path) -> None:
    from support.tiny_models import train_tokenizer, write_manifest

    folder = tmp_path / "artifact" / "onnx" / "fp32"
    tokenizer = train_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }} {{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    write_manifest(tmp_path / "artifact")
    (answer,) = replay(tmp_path / "artifact", [{"request": CHATS[0]}], "--precision", "fp32", "--now", "86400.5")
    assert tokenizer.decode(answer["promptIds"]) == "1970-01-02 What is tune?"
