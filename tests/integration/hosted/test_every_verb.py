"""Every method that OpenAI's client has for the resources of this API is called by the client itself.

A method that a newer client brings is in no table below, so it fails the test until it is decided what becomes of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal

import httpx
import openai
import pydantic
import pytest

from support.hosted import Hosted
from support.hosted_jobs import CHAT, lines
from support.hosted_models import add_checkpoint, add_model, add_project, project_of
from support.hosted_served import serving_base
from support.openai_verbs import RESOURCES, Caller, methods_of
from tunesmith_hosted.routing.unsupported import UNSUPPORTED

ASKED: Any = {"model": "tiny", "temperature": 0}
CHATS: Any = {**ASKED, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
ROWS = lines(CHAT)
NUMBERS = count(1)


class Answer(pydantic.BaseModel):
    answer: Literal["yes", "no"]


@dataclass
class Try:
    """A client of either kind, and what it works on."""

    call: Caller
    hosted: Hosted

    def file(self) -> str:
        return str(self.call("files.create", file=("rows.jsonl", ROWS), purpose="fine-tune").id)

    def job(self) -> str:
        return str(self.call("fine_tuning.jobs.create", model="tiny", training_file=self.file(), suffix="try").id)

    def upload(self) -> str:
        given = {"bytes": len(ROWS), "filename": "rows.jsonl", "mime_type": "application/jsonl"}
        return str(self.call("uploads.create", purpose="fine-tune", **given).id)

    def model(self) -> str:
        return add_model(self.hosted, self.hosted.key, "try", id=f"model{next(NUMBERS):03}")

    def checkpoint(self) -> str:
        return add_checkpoint(self.hosted, self.model(), 3)

    def permission(self, checkpoint: str) -> str:
        """Share a checkpoint with a new project of the organisation."""
        friend = project_of(self.hosted, add_project(self.hosted, "acme", f"friend-{next(NUMBERS)}"))
        (given,) = self.call(f"{PERMISSIONS}.create", checkpoint, project_ids=[friend])
        assert given.project_id == friend
        return str(given.id)


PERMISSIONS = "fine_tuning.checkpoints.permissions"


def files_create(t: Try) -> None:
    expiring = {"anchor": "created_at", "seconds": 3600}
    file = t.call("files.create", file=("a.jsonl", ROWS), purpose="fine-tune", expires_after=expiring)
    assert (file.filename, file.bytes, file.status) == ("a.jsonl", len(ROWS), "processed")
    assert file.expires_at == file.created_at + 3600


def files_list(t: Try) -> None:
    made = {t.file(), t.file(), t.file()}
    listed = [file.id for file in t.call("files.list", limit=1, purpose="fine-tune", order="asc")]
    assert made <= set(listed) and len(listed) == len(set(listed))


def files_retrieve(t: Try) -> None:
    id = t.file()
    assert t.call("files.retrieve", id).id == id


def files_delete(t: Try) -> None:
    id = t.file()
    assert t.call("files.delete", id).deleted
    with pytest.raises(openai.NotFoundError):
        t.call("files.retrieve", id)


def files_content(t: Try) -> None:
    assert t.call("files.content", t.file()) == ROWS


def files_retrieve_content(t: Try) -> None:
    """The old form, which reads the answer as text."""
    with pytest.warns(DeprecationWarning):
        content = t.call("files.retrieve_content", t.file())
    assert content == ROWS.decode()


def files_wait_for_processing(t: Try) -> None:
    assert t.call("files.wait_for_processing", t.file(), max_wait_seconds=5).status == "processed"


def uploads_create(t: Try) -> None:
    assert t.upload().startswith("upload_")


def uploads_parts_create(t: Try) -> None:
    upload = t.upload()
    assert t.call("uploads.parts.create", upload, data=ROWS).upload_id == upload


def uploads_complete(t: Try) -> None:
    upload = t.upload()
    parts = [t.call("uploads.parts.create", upload, data=piece).id for piece in (ROWS[:9], ROWS[9:])]
    done = t.call("uploads.complete", upload, part_ids=parts)
    assert done.status == "completed" and t.call("files.content", done.file.id) == ROWS


def uploads_cancel(t: Try) -> None:
    assert t.call("uploads.cancel", t.upload()).status == "cancelled"


def uploads_upload_file_chunked(t: Try) -> None:
    done = t.call(
        "uploads.upload_file_chunked",
        file=ROWS,
        filename="rows.jsonl",
        bytes=len(ROWS),
        mime_type="application/jsonl",
        purpose="fine-tune",
        part_size=len(ROWS) // 3,
    )
    assert t.call("files.content", done.file.id) == ROWS


def jobs_create(t: Try) -> None:
    options = {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "beta": 0.2}}
    job = t.call(
        "fine_tuning.jobs.create",
        model="gpt-4o-mini-2024-07-18",
        training_file=t.file(),
        validation_file=t.file(),
        method={"type": "dpo", "dpo": options},
        metadata={"team": "x"},
        seed=7,
        suffix="try",
    )
    assert (job.status, job.seed, job.method.type, job.metadata) == ("validating_files", 7, "dpo", {"team": "x"})
    old = t.call(
        "fine_tuning.jobs.create", model="tiny", training_file=t.file(), hyperparameters={"learning_rate_multiplier": 2}
    )
    assert old.hyperparameters.learning_rate_multiplier == 2 and old.method.type == "supervised"


def jobs_list(t: Try) -> None:
    made = {t.job(), t.job(), t.job()}
    assert made <= {job.id for job in t.call("fine_tuning.jobs.list", limit=1)}


def jobs_retrieve(t: Try) -> None:
    id = t.job()
    assert t.call("fine_tuning.jobs.retrieve", id).id == id


def jobs_cancel(t: Try) -> None:
    assert t.call("fine_tuning.jobs.cancel", t.job()).status == "cancelled"


def jobs_pause(t: Try) -> None:
    assert t.call("fine_tuning.jobs.pause", t.job()).status == "paused"


def jobs_resume(t: Try) -> None:
    id = t.job()
    t.call("fine_tuning.jobs.pause", id)
    assert t.call("fine_tuning.jobs.resume", id).status == "validating_files"


def jobs_list_events(t: Try) -> None:
    id = t.job()
    events = t.call("fine_tuning.jobs.list_events", id, limit=1)
    assert events[-1].message == f"Created fine-tuning job: {id}" and len(events) == 2


def jobs_checkpoints_list(t: Try) -> None:
    name = t.checkpoint()
    job = f"ftjob-try{name.split(':')[4]}"
    (found,) = t.call("fine_tuning.jobs.checkpoints.list", job)
    assert (found.fine_tuned_model_checkpoint, found.step_number, found.fine_tuning_job_id) == (name, 3, job)


def permissions_create(t: Try) -> None:
    t.permission(t.checkpoint())


def permissions_list(t: Try) -> None:
    checkpoint = t.checkpoint()
    made = t.permission(checkpoint)
    assert [found.id for found in t.call(f"{PERMISSIONS}.list", checkpoint, limit=1)] == [made]


def permissions_retrieve(t: Try) -> None:
    checkpoint = t.checkpoint()
    made = t.permission(checkpoint)
    with pytest.warns(DeprecationWarning):
        page = t.call(f"{PERMISSIONS}.retrieve", checkpoint, order="ascending", limit=1)
    assert [found.id for found in page.data] == [made] and not page.has_more


def permissions_delete(t: Try) -> None:
    checkpoint = t.checkpoint()
    made = t.permission(checkpoint)
    assert t.call(f"{PERMISSIONS}.delete", made, fine_tuned_model_checkpoint=checkpoint).deleted
    assert t.call(f"{PERMISSIONS}.list", checkpoint) == []


def models_list(t: Try) -> None:
    assert {"tiny", t.model()} <= {model.id for model in t.call("models.list")}


def models_retrieve(t: Try) -> None:
    for name in (t.model(), t.checkpoint(), "tiny", "gpt-4o-mini-2024-07-18"):
        assert t.call("models.retrieve", name).id == name


def models_delete(t: Try) -> None:
    assert t.call("models.delete", t.model()).deleted


def chat_create(t: Try) -> None:
    answer = t.call("chat.completions.create", n=2, logprobs=True, top_logprobs=2, **CHATS)
    assert len(answer.choices) == 2 and answer.model == "tiny"
    streamed = t.call("chat.completions.create", stream=True, stream_options={"include_usage": True}, **CHATS)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices)
    assert text == answer.choices[0].message.content
    assert streamed[-1].usage.completion_tokens > 0


def chat_stream(t: Try) -> None:
    events = t.call("chat.completions.stream", **CHATS)
    assert events[-1].type == "content.done"


def chat_parse(t: Try) -> None:
    asked = {**CHATS, "max_tokens": 64}
    assert t.call("chat.completions.parse", response_format=Answer, **asked).choices[0].message.parsed.answer


def completions_create(t: Try) -> None:
    asked = {**ASKED, "prompt": "a", "max_tokens": 4}
    answer = t.call("completions.create", logprobs=1, **asked)
    streamed = t.call("completions.create", stream=True, **asked)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


def responses_create(t: Try) -> None:
    answer = t.call("responses.create", input="hi", max_output_tokens=16, **ASKED)
    events = t.call("responses.create", input="hi", max_output_tokens=16, stream=True, **ASKED)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == answer.output_text


def responses_stream(t: Try) -> None:
    events = t.call("responses.stream", input="hi", max_output_tokens=16, **ASKED)
    assert events[0].type == "response.created"


def responses_parse(t: Try) -> None:
    answer = t.call("responses.parse", input="hi", max_output_tokens=64, text_format=Answer, **ASKED)
    assert answer.output_parsed.answer


def refused(method: str, *args: Any, **options: Any) -> Callable[[Try], None]:
    """A method that the service does not offer: the answer says what to do instead."""

    def check(t: Try) -> None:
        with pytest.raises(openai.NotFoundError, match="not offered|not stored") as answer:
            t.call(method, *args, **options)
        assert answer.value.code == "unsupported_endpoint"

    return check


def by_websocket(t: Try) -> None:
    """The client refuses without a package for websockets, so the request is sent as it would."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    headers = {"Authorization": f"Bearer {t.hosted.key}", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **upgrade}
    answer = httpx.get(f"{t.hosted.url}/v1/responses", headers=headers)
    assert answer.status_code == 404 and "stream true" in answer.json()["error"]["message"]


GRADER: Any = {"type": "string_check", "name": "a", "input": "a", "operation": "eq", "reference": "a"}
STORED = "chat.completions"

TRIED: dict[str, Callable[[Try], None]] = {
    "files.create": files_create,
    "files.list": files_list,
    "files.retrieve": files_retrieve,
    "files.delete": files_delete,
    "files.content": files_content,
    "files.retrieve_content": files_retrieve_content,
    "files.wait_for_processing": files_wait_for_processing,
    "uploads.create": uploads_create,
    "uploads.parts.create": uploads_parts_create,
    "uploads.complete": uploads_complete,
    "uploads.cancel": uploads_cancel,
    "uploads.upload_file_chunked": uploads_upload_file_chunked,
    "fine_tuning.jobs.create": jobs_create,
    "fine_tuning.jobs.list": jobs_list,
    "fine_tuning.jobs.retrieve": jobs_retrieve,
    "fine_tuning.jobs.cancel": jobs_cancel,
    "fine_tuning.jobs.pause": jobs_pause,
    "fine_tuning.jobs.resume": jobs_resume,
    "fine_tuning.jobs.list_events": jobs_list_events,
    "fine_tuning.jobs.checkpoints.list": jobs_checkpoints_list,
    "fine_tuning.checkpoints.permissions.create": permissions_create,
    "fine_tuning.checkpoints.permissions.list": permissions_list,
    "fine_tuning.checkpoints.permissions.retrieve": permissions_retrieve,
    "fine_tuning.checkpoints.permissions.delete": permissions_delete,
    "fine_tuning.alpha.graders.run": refused("fine_tuning.alpha.graders.run", grader=GRADER, model_sample="a"),
    "fine_tuning.alpha.graders.validate": refused("fine_tuning.alpha.graders.validate", grader=GRADER),
    "models.list": models_list,
    "models.retrieve": models_retrieve,
    "models.delete": models_delete,
    "chat.completions.create": chat_create,
    "chat.completions.stream": chat_stream,
    "chat.completions.parse": chat_parse,
    "chat.completions.list": refused("chat.completions.list"),
    "chat.completions.retrieve": refused("chat.completions.retrieve", "chatcmpl-1"),
    "chat.completions.update": refused("chat.completions.update", "chatcmpl-1", metadata={"a": "b"}),
    "chat.completions.delete": refused("chat.completions.delete", "chatcmpl-1"),
    "chat.completions.messages.list": refused("chat.completions.messages.list", "chatcmpl-1"),
    "completions.create": completions_create,
    "responses.create": responses_create,
    "responses.stream": responses_stream,
    "responses.parse": responses_parse,
    "responses.retrieve": refused("responses.retrieve", "resp_1"),
    "responses.delete": refused("responses.delete", "resp_1"),
    "responses.cancel": refused("responses.cancel", "resp_1"),
    "responses.compact": refused("responses.compact", model="tiny", input="hi"),
    "responses.input_items.list": refused("responses.input_items.list", "resp_1"),
    "responses.input_tokens.count": refused("responses.input_tokens.count", model="tiny", input="hi"),
    "responses.connect": by_websocket,
}


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    with serving_base(tmp_path_factory.mktemp("hosted")) as service:
        yield service


@pytest.fixture(params=[openai.OpenAI, openai.AsyncOpenAI], ids=["sync", "async"])
def tried(request: pytest.FixtureRequest, hosted: Hosted) -> Iterator[Try]:
    caller = Caller(request.param(base_url=f"{hosted.url}/v1", api_key=hosted.key, max_retries=0))
    yield Try(caller, hosted)
    caller.close()


def test_every_method_is_decided(tried: Try) -> None:
    assert methods_of(tried.call.client, RESOURCES) == set(TRIED)


def test_every_method_works_or_says_what_to_do(tried: Try) -> None:
    for method, attempt in TRIED.items():
        try:
            attempt(tried)
        except BaseException as error:
            error.add_note(f"while {method} was tried")
            raise


def test_what_is_refused_needs_a_key(hosted: Hosted) -> None:
    """Who has none is told no more than elsewhere."""
    for method, path, _ in UNSUPPORTED:
        answer = httpx.request(method, f"{hosted.url}/v1{path.format(id='x')}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")
