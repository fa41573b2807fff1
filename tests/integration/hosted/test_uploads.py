"""Files in parts, by OpenAI's own client."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Upload
from openai.types.uploads import UploadPart
from sqlalchemy import select, update

from support.hosted import Hosted, serving
from tunesmith_hosted.database.tables import Outbox
from tunesmith_hosted.database.tables import Upload as UploadRow
from tunesmith_hosted.files.cleanup import clean
from tunesmith_hosted.http.context import Context

LARGE = int(os.environ.get("TUNESMITH_TEST_UPLOAD_BYTES", 80 << 20))
SMALL = int(os.environ.get("TUNESMITH_TEST_UPLOAD_FILES", 50))
MOST_MEMORY = 300 << 20
PART = 16 << 20


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosted]:
    backend: Any = None
    with serving(tmp_path_factory.mktemp("hosted"), backend) as service:
        yield service


@pytest.fixture(scope="module")
def client(hosted: Hosted) -> openai.OpenAI:
    return hosted.client()


def clean_all(hosted: Hosted) -> list[Path]:
    """Do what the outbox asks for; return what is in the store's folder then."""
    backend: Any = None
    context = Context(hosted.settings, hosted.sessions, backend, wake_reconciler=lambda: None)

    async def work() -> None:
        async with hosted.sessions() as session:
            due = Outbox.kind == "file", Outbox.due_at <= time.time()
            subjects = list((await session.execute(select(Outbox.subject).where(*due))).scalars())
        for subject in subjects:
            await clean(context, subject)

    hosted.run(work())
    return sorted(path for path in Path(hosted.settings.files).rglob("*") if path.is_file())


def create(client: openai.OpenAI, size: int) -> Upload:
    return client.uploads.create(bytes=size, filename="a.txt", mime_type="text/plain", purpose="user_data")


def strict(kind: Any, value: Any) -> None:
    given = value.model_dump()
    assert set(given) <= set(kind.model_fields)
    kind.model_validate(given, strict=True)


def test_parts_become_a_file(hosted: Hosted, client: openai.OpenAI, tmp_path: Path) -> None:
    before = clean_all(hosted)
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' * 5000)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    upload = client.uploads.upload_file_chunked(
        file=path, mime_type="application/jsonl", purpose="fine-tune", part_size=50_000, md5=md5
    )
    strict(Upload, upload)
    assert upload.status == "completed" and upload.file is not None
    assert client.files.content(upload.file.id).read() == path.read_bytes()
    assert client.files.retrieve(upload.file.id) == upload.file
    assert [new.name for new in set(clean_all(hosted)) - set(before)] == [f"{upload.file.id}.jsonl"]


def test_the_order_is_that_of_the_ids(client: openai.OpenAI) -> None:
    upload = create(client, 6)
    strict(Upload, upload)
    assert upload.status == "pending" and upload.file is None and upload.expires_at == upload.created_at + 3600
    parts = [client.uploads.parts.create(upload.id, data=data) for data in (b"aa", b"bb", b"cc", b"xx")]
    strict(UploadPart, parts[0])
    done = client.uploads.complete(upload.id, part_ids=[parts[index].id for index in (2, 0, 1)])
    assert done.file is not None and client.files.content(done.file.id).read() == b"ccaabb"
    again = client.uploads.complete(upload.id, part_ids=[parts[0].id])  # as a client whose connection broke
    assert again == done
    for ask in (lambda: client.uploads.parts.create(upload.id, data=b"dd"), lambda: client.uploads.cancel(upload.id)):
        with pytest.raises(openai.BadRequestError, match="is completed"):
            ask()


def test_what_does_not_fit_is_refused(client: openai.OpenAI) -> None:
    upload = create(client, 4)
    part = client.uploads.parts.create(upload.id, data=b"aaaa")
    other = client.uploads.parts.create(upload.id, data=b"bb")
    cases: list[tuple[list[str], str | None, str]] = [
        ([other.id], None, "2 bytes"),
        ([part.id, other.id], None, "6 bytes"),
        ([other.id, other.id], None, "twice"),
        (["part_of_nobody"], None, "no part"),
        ([part.id], "0" * 32, "md5"),
    ]
    for ids, md5, says in cases:
        with pytest.raises(openai.BadRequestError, match=says):
            client.uploads.complete(upload.id, part_ids=ids, md5=md5 or openai.omit)
    with pytest.raises(openai.APIStatusError) as refused:
        client.uploads.parts.create(upload.id, data=b"aaaaa")
    assert refused.value.status_code == 413
    assert client.uploads.complete(upload.id, part_ids=[part.id]).status == "completed"


def test_an_upload_is_cancelled_or_expires(hosted: Hosted, client: openai.OpenAI) -> None:
    before = clean_all(hosted)
    cancelled, expired = create(client, 4), create(client, 4)
    for upload in (cancelled, expired):
        client.uploads.parts.create(upload.id, data=b"aaaa")
    assert len(clean_all(hosted)) == len(before) + 2
    strict(Upload, client.uploads.cancel(cancelled.id))
    assert client.uploads.cancel(cancelled.id).status == "cancelled"

    async def expire() -> None:
        async with hosted.sessions.begin() as session:
            row = update(UploadRow).where(UploadRow.id == expired.id)
            await session.execute(row.values(expires_at=int(time.time()) - 1))
            await session.execute(update(Outbox).where(Outbox.subject == expired.id).values(due_at=0))

    hosted.run(expire())
    for upload, status in ((cancelled, "cancelled"), (expired, "expired")):
        with pytest.raises(openai.BadRequestError, match=f"is {status}"):
            client.uploads.parts.create(upload.id, data=b"aaaa")
    assert clean_all(hosted) == before


def test_another_project_sees_no_upload(hosted: Hosted, client: openai.OpenAI) -> None:
    other = hosted.client(hosted.other_key)
    upload = create(client, 4)
    part = client.uploads.parts.create(upload.id, data=b"aaaa")
    own = create(other, 4)
    for ask in (
        lambda: other.uploads.parts.create(upload.id, data=b"aaaa"),
        lambda: other.uploads.complete(upload.id, part_ids=[part.id]),
        lambda: other.uploads.cancel(upload.id),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    with pytest.raises(openai.BadRequestError, match="has no part"):
        other.uploads.complete(own.id, part_ids=[part.id])


_CHILD = """
import sys, threading
from pathlib import Path
from support.hosted import serving
with serving(Path(sys.argv[1]), None) as hosted:
    print(hosted.url, hosted.key, flush=True)
    sys.stdin.read()
"""


def send_half(url: str, key: str, upload: str, data: bytes) -> None:
    """Send half a part, then break the connection."""
    host, port = url.removeprefix("http://").split(":")
    head = (
        f"POST /v1/uploads/{upload}/parts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(data) + 100}\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="data"; filename="d"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + data[: len(data) // 2])


@pytest.mark.slow
def test_many_small_files_and_a_large_one_need_little_memory(tmp_path: Path) -> None:
    """Peak memory of the server's own process; two parts of the large file break off and are sent again."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], stdin=pipe, stdout=pipe, text=True, env=env)
    try:
        assert child.stdout is not None
        url, key = child.stdout.readline().split()
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=key)
        chance = random.Random(0)
        expected = {}
        for number in range(SMALL):
            content = chance.randbytes(chance.randint(1, 20_000))
            file = client.files.create(file=(f"{number}.bin", content), purpose="user_data")
            expected[file.id] = hashlib.sha256(content).hexdigest()
        upload = client.uploads.create(
            bytes=LARGE, filename="large.bin", mime_type="application/octet-stream", purpose="user_data"
        )
        digest, ids = hashlib.sha256(), []
        for number, start in enumerate(range(0, LARGE, PART)):
            piece = random.Random(number).randbytes(min(PART, LARGE - start))
            if number in (1, 3):
                send_half(url, key, upload.id, piece)
            ids.append(client.uploads.parts.create(upload.id, data=piece).id)
            digest.update(piece)
        done = client.uploads.complete(upload.id, part_ids=ids)
        assert done.file is not None
        expected[done.file.id] = digest.hexdigest()
        listed = {file.id for file in client.files.list()}
        assert listed == set(expected)
        for id, wanted in expected.items():
            found = hashlib.sha256()
            with client.files.with_streaming_response.content(id) as answer:
                for chunk in answer.iter_bytes():
                    found.update(chunk)
            assert found.hexdigest() == wanted
        status = Path(f"/proc/{child.pid}/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) << 10
        assert peak < MOST_MEMORY, f"{peak >> 20} MiB"
        files = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
        assert len(files) == SMALL + 1 + len(ids)  # the parts are the reconciler's to remove
    finally:
        child.communicate("")
