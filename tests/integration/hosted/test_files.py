"""Files, by OpenAI's own client."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import FileDeleted, FileObject
from sqlalchemy import select, update

from support.hosted import Hosted, serving
from support.object_store import ObjectStore
from tunesmith_hosted.database.tables import File, Job, Outbox
from tunesmith_hosted.files.cleanup import StillUsedError, clean
from tunesmith_hosted.files.store import CHUNK, open_local, store_of
from tunesmith_hosted.http.context import Context

ROW = json.dumps({"messages": [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": "hi"}]}) + "\n"
ROWS = ROW.encode() * 3


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    backend: Any = None
    with serving(tmp_path_factory.mktemp("hosted"), backend, max_file_bytes=3 << 20) as service:
        yield service


@pytest.fixture(scope="module")
def client(hosted: Hosted) -> openai.OpenAI:
    return hosted.client()


def context_of(hosted: Hosted) -> Context:
    backend: Any = None
    return Context(hosted.settings, hosted.sessions, backend, wake_reconciler=lambda: None)


def stored(hosted: Hosted) -> list[Path]:
    """Everything in the store's folder."""
    return sorted(path for path in Path(hosted.settings.files).rglob("*") if path.is_file())


def outbox(hosted: Hosted) -> set[str]:
    async def subjects() -> set[str]:
        async with hosted.sessions() as session:
            return set((await session.execute(select(Outbox.subject).where(Outbox.kind == "file"))).scalars())

    return hosted.run(subjects())


def set_columns(hosted: Hosted, id: str, **columns: object) -> None:
    async def write() -> None:
        async with hosted.sessions.begin() as session:
            await session.execute(update(File).where(File.id == id).values(**columns))

    hosted.run(write())


def strict(kind: Any, value: Any) -> None:
    """Check that an answer has the fields of OpenAI's type and no others, with the right types."""
    fields = set(kind.model_fields)
    given = value.model_dump()
    assert set(given) <= fields, set(given) - fields
    kind.model_validate(given, strict=True)


def test_a_file_is_uploaded_listed_read_and_deleted(hosted: Hosted, client: openai.OpenAI) -> None:
    file = client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
    strict(FileObject, file)
    assert (file.bytes, file.filename, file.purpose, file.status) == (
        len(ROWS),
        "train.jsonl",
        "fine-tune",
        "processed",
    )
    assert file.expires_at is None and abs(file.created_at - time.time()) < 60
    assert client.files.retrieve(file.id) == file
    assert file in list(client.files.list())
    assert client.files.content(file.id).read() == ROWS
    before = stored(hosted)
    gone = client.files.delete(file.id)
    strict(FileDeleted, gone)
    assert gone.deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    assert file.id not in [other.id for other in client.files.list()]
    hosted.run(clean(context_of(hosted), file.id))
    assert [path.name for path in set(before) - set(stored(hosted))] == [f"{file.id}.jsonl"]


def test_lists_are_in_pages_by_cursor(client: openai.OpenAI) -> None:
    files = [client.files.create(file=(f"{n}.txt", b"x" * (n + 1)), purpose="user_data") for n in range(5)]
    ids = {file.id for file in files}
    for order in ("asc", "desc"):
        found = [file.id for file in client.files.list(purpose="user_data", limit=2, order=order)]  # follows the pages
        assert len(found) == 5 and set(found) == ids
        if order == "asc":
            forward = found
    assert found == forward[::-1]
    page = client.files.list(purpose="user_data", limit=2, order="asc", after=forward[1])
    assert [file.id for file in page.data] == forward[2:4] and page.has_more
    for limit in (0, 10_001):
        with pytest.raises(openai.BadRequestError) as refused:
            client.files.list(limit=limit)
        assert refused.value.param == "limit"
    with pytest.raises(openai.NotFoundError):
        client.files.list(after="file-of-nobody")


def test_another_project_sees_nothing(hosted: Hosted, client: openai.OpenAI) -> None:
    file = client.files.create(file=("own.jsonl", ROWS), purpose="fine-tune")
    other = hosted.client(hosted.other_key)
    asks = [other.files.retrieve, other.files.content, other.files.delete, lambda id: other.files.list(after=id)]
    for ask in asks:
        messages = []
        for id in (file.id, "file-" + "0" * 24):
            with pytest.raises(openai.NotFoundError) as refused:
                ask(id)
            messages.append(refused.value.message.replace(id, "ID"))
        assert messages[0] == messages[1]  # what is another's looks like what is nobody's
    assert not list(other.files.list())
    assert client.files.retrieve(file.id) == file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (ROWS + b"{'messages': []}\n", "Line 4: not JSON"),
        (ROWS + b'["a"]\n', "Line 4: a JSON object"),
        (ROWS * 10_000 + "é".encode()[:1] + b"\n" + ROWS, "Line 30001: the file must be UTF-8"),
        (ROWS + "é".encode()[:1], "Line 4: the file must be UTF-8"),
    ],
    ids=["empty", "blank", "not JSON", "no object", "not UTF-8", "half a character"],
)
def test_what_cannot_be_trained_on_is_refused(hosted: Hosted, client: openai.OpenAI, content: bytes, says: str) -> None:
    before = stored(hosted)
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    assert refused.value.param == "file"
    assert stored(hosted) == before


def test_requests_that_are_wrong_say_what_is_wanted(hosted: Hosted, client: openai.OpenAI) -> None:
    before = stored(hosted)
    cases: list[tuple[dict[str, Any], str, int]] = [
        ({"purpose": "fun"}, "purpose", 400),
        ({"purpose": "fine-tune-results"}, "purpose", 400),
        ({"purpose": "user_data", "expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor", 400),
        (
            {"purpose": "user_data", "expires_after": {"anchor": "created_at", "seconds": 9}},
            "expires_after.seconds",
            400,
        ),
        ({"purpose": "user_data", "file": ("large", b"x" * ((3 << 20) + 1))}, "file", 413),
    ]
    for given, param, status in cases:
        arguments: Any = {"file": ("a", b"x"), **given}
        with pytest.raises(openai.APIStatusError) as refused:
            client.files.create(**arguments)
        assert (refused.value.status_code, refused.value.param) == (status, param)
    headers = {"Authorization": f"Bearer {hosted.key}"}
    url = f"{hosted.url}/v1/files"
    for body in (
        {"data": {"purpose": "user_data"}, "files": {"other": ("a", b"x")}},
        {"json": {"purpose": "user_data"}},
        {"files": {"file": ("a", b"x")}},
        {"content": b"--b\r\nnonsense", "headers": {"Content-Type": "multipart/form-data; boundary=b", **headers}},
        {"content": b"--b\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b", **headers}},
    ):
        answer = httpx.post(url, **{"headers": headers, **body})  # type: ignore[arg-type]
        assert answer.status_code == 400 and answer.json()["error"]["message"], answer.text
    assert stored(hosted) == before


def test_the_purpose_may_come_after_the_file(hosted: Hosted) -> None:
    parts = [
        b'Content-Disposition: form-data; name="file"; filename="b.jsonl"\r\nContent-Type: text/plain\r\n\r\n' + ROWS,
        b'Content-Disposition: form-data; name="purpose"\r\n\r\nfine-tune',
    ]
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    headers = {"Authorization": f"Bearer {hosted.key}", "Content-Type": "multipart/form-data; boundary=b"}
    answer = httpx.post(f"{hosted.url}/v1/files", content=body, headers=headers)
    assert answer.status_code == 200 and answer.json()["bytes"] == len(ROWS)


def test_a_file_expires(hosted: Hosted, client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("a.jsonl", ROWS), purpose="fine-tune", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    assert file.id in outbox(hosted)
    hosted.run(clean(context_of(hosted), file.id))  # too early
    assert client.files.content(file.id).read() == ROWS
    set_columns(hosted, file.id, expires_at=int(time.time()) - 1)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    hosted.run(clean(context_of(hosted), file.id))
    assert not [path for path in stored(hosted) if file.id in path.name]
    batch = client.files.create(file=("a.jsonl", ROWS), purpose="batch")
    assert batch.expires_at == batch.created_at + 30 * 86_400


def test_what_an_interrupted_upload_has_left_is_removed(hosted: Hosted, client: openai.OpenAI) -> None:
    known = outbox(hosted)
    store = Path(hosted.settings.files)
    file = client.files.create(file=("a.jsonl", ROWS), purpose="user_data")
    assert outbox(hosted) == known  # nothing is left to look at
    lost = "file-" + "Z" * 24
    for path in (store / f"{lost}.jsonl", store / ".partial" / lost):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"half")
    hosted.run(clean(context_of(hosted), lost))
    hosted.run(clean(context_of(hosted), file.id))
    assert not [path for path in stored(hosted) if lost in path.name]
    assert client.files.content(file.id).read() == ROWS


def test_a_deleted_file_stays_while_a_job_reads_it(hosted: Hosted, client: openai.OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", ROWS), purpose="fine-tune")

    async def add_job(status: str) -> None:
        async with hosted.sessions.begin() as session:
            row = await session.get_one(File, file.id)
            job = await session.get(Job, "ftjob-1") or Job(
                id="ftjob-1", project_id=row.project_id, base="tiny", model="tiny", seed=1, method={}, request={},
                training_file=file.id, object_name="ft-1", created_at=1,
            )  # fmt: skip
            job.status = status
            session.add(job)

    hosted.run(add_job("queued"))
    client.files.delete(file.id)
    with pytest.raises(StillUsedError):
        hosted.run(clean(context_of(hosted), file.id))
    assert [path for path in stored(hosted) if file.id in path.name]
    hosted.run(add_job("failed"))
    hosted.run(clean(context_of(hosted), file.id))
    assert not [path for path in stored(hosted) if file.id in path.name]


def asked_for(client: openai.OpenAI, id: str) -> tuple[openai.APIStatusError, int]:
    """Ask for a content that does not come, as a client does that tries again; return the error, and how often."""
    asked: list[httpx.Request] = []
    with httpx.Client(event_hooks={"request": [asked.append]}) as http:
        patient = client.with_options(max_retries=1, http_client=http)
        with pytest.raises(openai.APIStatusError) as refused:
            patient.files.content(id)
    return refused.value, len(asked)


def test_a_content_that_is_gone_is_not_asked_for_again(hosted: Hosted, client: openai.OpenAI) -> None:
    file = client.files.create(file=("a.jsonl", ROWS), purpose="user_data")
    store = Path(hosted.settings.files)
    away = store.rename(store.with_name("away"))
    try:
        error, times = asked_for(client, file.id)
        assert (error.status_code, error.code, times) == (503, "storage_unavailable", 2)  # it may come back
    finally:
        away.rename(store)
    (store / f"{file.id}.jsonl").unlink()
    error, times = asked_for(client, file.id)
    assert (error.status_code, error.code, times) == (404, "file_content_gone", 1)
    assert "upload it again" in error.message
    assert client.files.retrieve(file.id).id == file.id  # it is still listed, and can be deleted
    assert client.files.delete(file.id).deleted


def test_files_are_kept_in_an_object_store(object_store: ObjectStore, tmp_path: Path) -> None:
    backend: Any = None
    content = ROWS * 60_000  # larger than what is sent in one request
    with serving(tmp_path, backend, files="s3://bucket/hosted") as hosted:
        client = hosted.client()
        file = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
        digest = hashlib.sha256(client.files.content(file.id).read()).hexdigest()
        assert digest == hashlib.sha256(content).hexdigest()

        async def uri() -> str:
            async with hosted.sessions() as session:
                return open_local(context_of(hosted), await session.get_one(File, file.id))

        def contents() -> list[str]:  # Arrow adds an empty object for the folder
            return [name for name in object_store.objects if "file-" in name]

        assert hosted.run(uri()) == f"s3://bucket/hosted/{file.id}.jsonl"
        before = object_store.gets
        with store_of(context_of(hosted)).reader(f"{file.id}.jsonl") as source:
            assert sum(1 for _ in source) == content.count(b"\n")
        assert object_store.gets - before <= 2 + len(content) / CHUNK, "a request for each block, not for each line"
        with pytest.raises(openai.BadRequestError):
            client.files.create(file=("train.jsonl", b"no"), purpose="fine-tune")
        assert contents() == [f"bucket/hosted/{file.id}.jsonl"]
        lost = client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
        del object_store.objects[f"bucket/hosted/{lost.id}.jsonl"]
        error, times = asked_for(client, lost.id)
        assert (error.status_code, error.code, times) == (404, "file_content_gone", 1)
        client.files.delete(file.id)
        hosted.run(clean(context_of(hosted), file.id))
        assert not contents()
        object_store.status = 500
        with pytest.raises(openai.InternalServerError) as refused:
            client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
        assert refused.value.code == "storage_unavailable"
