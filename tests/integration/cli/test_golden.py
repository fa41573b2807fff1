"""Answers of an old model are kept: each prompt is asked once, whatever comes between."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import tunesmith
from support.flaky_chat import FlakyChat
from support.serving_process import wait_until
from tunesmith_cli.imports.errors import ImportFailedError, RemoteError
from tunesmith_cli.imports.golden import GoldenSet, record
from tunesmith_cli.imports.journal import Journal
from tunesmith_cli.imports.prompts import Prompt, read_prompts
from tunesmith_cli.imports.remote import Remote

TEXTS = [f"How is {n}?" for n in range(12)]


@pytest.fixture
def chat() -> Iterator[FlakyChat]:
    with FlakyChat().serving() as service:
        yield service


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS))
    return path


class Recorder:
    """Records with waits that take no time."""

    def __init__(self, chat: FlakyChat, folder: Path) -> None:
        self.waits: list[float] = []
        self.target = folder / "golden.jsonl"
        self._chat = chat

    def __call__(self, prompts: list[Prompt], **given: int) -> GoldenSet:
        remote = Remote(self._chat.url, "k", self.waits.append)
        options = {"at_once": 3, "max_tokens": 32, **given}
        return record(remote, "ft:old", prompts, self.target, tell=lambda done, total: None, **options)

    def answers(self) -> list[tuple[str, str]]:
        rows = [json.loads(line)["messages"] for line in self.target.read_text().splitlines()]
        return [(row[-2]["content"], row[-1]["content"]) for row in rows]


@pytest.fixture
def recorder(chat: FlakyChat, tmp_path: Path) -> Recorder:
    return Recorder(chat, tmp_path)


def test_each_prompt_is_asked_once(chat: FlakyChat, recorder: Recorder, prompts: Path) -> None:
    golden = recorder(read_prompts(prompts))
    assert (golden.rows, golden.left_out) == (len(TEXTS), ())
    assert recorder.answers() == [(text, f"You said: {text}") for text in TEXTS]
    assert sorted(chat.asked) == sorted(TEXTS)
    assert 1 < chat.most <= 3
    # What is new is asked, and nothing else; a prompt that is there twice is one row.
    before = recorder.target.read_bytes()
    recorder(read_prompts(prompts))
    assert recorder.target.read_bytes() == before and len(chat.asked) == len(TEXTS)
    prompts.write_text(prompts.read_text() + 2 * '{"prompt": "And now?"}\n')
    assert recorder(read_prompts(prompts)).rows == len(TEXTS) + 1
    assert chat.asked[len(TEXTS) :] == ["And now?"]


def test_only_what_may_pass_is_tried_again(chat: FlakyChat, recorder: Recorder, prompts: Path) -> None:
    asked = read_prompts(prompts)[:1]
    chat.failures.extend([(429, {"Retry-After": "7"}, "rate_limit_exceeded"), (503, {}, ""), (500, {}, "")])
    assert recorder(asked).rows == 1
    assert recorder.waits == [7.0, 2.0, 4.0]
    for failure in ((401, {}, "invalid_api_key"), (404, {}, "model_not_found"), (429, {}, "insufficient_quota")):
        chat.failures.append(failure)
        count = len(chat.asked)
        with pytest.raises(RemoteError, match=f"fails with {failure[0]}"):
            recorder(asked, max_tokens=failure[0])
        assert len(chat.asked) == count + 1
    chat.failures.extend([(500, {}, "")] * 8)
    with pytest.raises(RemoteError, match="fails with 500"):
        recorder(asked, max_tokens=9)
    assert len(recorder.waits) == 3 + 7


def test_a_refused_prompt_is_named_and_the_others_are_kept(chat: FlakyChat, recorder: Recorder, prompts: Path) -> None:
    chat.failures.append((400, {}, "content_filter"))
    with pytest.raises(ImportFailedError, match="line 1: 400"):
        recorder(read_prompts(prompts), at_once=1)
    assert not recorder.target.exists() and len(chat.asked) == len(TEXTS)
    assert recorder(read_prompts(prompts)).rows == len(TEXTS)
    assert len(chat.asked) == len(TEXTS) + 1


def test_what_is_no_whole_answer_is_left_out(chat: FlakyChat, recorder: Recorder, prompts: Path) -> None:
    kinds = {
        TEXTS[0]: {"finish_reason": "length"},
        TEXTS[1]: {"message": {"role": "assistant", "content": None, "refusal": "no"}},
    }
    chat.choice = lambda text: kinds.get(text, {})
    golden = recorder(read_prompts(prompts))
    assert golden.left_out == ("line 1: longer than --max-tokens", "line 2: refused to answer")
    assert golden.rows == len(TEXTS) - 2


def test_a_recorder_that_is_killed_goes_on(chat: FlakyChat, prompts: Path, tmp_path: Path) -> None:
    options = ["import", "openai", "--record", prompts, "--model", "ft:old", "--at-once", "2", "--base-url", chat.url]
    command = [sys.executable, "-m", "tunesmith_cli", *map(str, options)]
    journal = tmp_path / "imported" / "golden.answers.jsonl"
    environment = {"OPENAI_API_KEY": "k", "PATH": ""}
    chat.hold.clear()
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        wait_until(lambda: len(chat.asked) == 2)
        chat.hold.set()
        wait_until(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3)
        chat.hold.clear()
        process.send_signal(signal.SIGKILL)
    chat.hold.set()
    kept = journal.read_bytes()
    assert not (tmp_path / "imported" / "golden.jsonl").exists()
    with journal.open("ab") as file:  # as if it had been killed while it wrote
        file.write(b'{"key": "half of a li')
    done = tunesmith(*options, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "imported" / "golden.jsonl").read_text().splitlines()) == len(TEXTS)
    assert journal.read_bytes().startswith(kept)
    count = len(chat.asked)
    with Journal(journal) as read:  # nothing in it is damaged
        assert len(read.answers) == len(TEXTS)
    assert tunesmith(*options, cwd=tmp_path, env=environment).returncode == 0 and len(chat.asked) == count
    # Beyond one request each, only those that were under way when it was killed.
    assert len(TEXTS) <= len(chat.asked) <= len(TEXTS) + 2


def test_one_recorder_writes_at_a_time(chat: FlakyChat, recorder: Recorder, prompts: Path) -> None:
    with (
        Journal(recorder.target.with_suffix(".answers.jsonl")),
        pytest.raises(ImportFailedError, match="another process"),
    ):
        recorder(read_prompts(prompts))
