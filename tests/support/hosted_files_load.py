"""Files of the hosted service: many, and a large one in parts that are interrupted."""

import hashlib
import random
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx

from support.hosted_fleet import Fleet
from support.hosted_load import persist

MOST_BYTES = 300 << 20
"""The most memory that a process of the service may take."""

PART_BYTES = 32 << 20
_LARGEST = 2 << 20
_READ = 1 << 20


def upload_many(fleet: Fleet, key: str, count: int, seed: int) -> int:
    """Upload files of mixed sizes, eight at a time, read all of them again, and return the bytes."""
    choice = random.Random(seed)
    sizes = [int(_LARGEST ** choice.random()) for _ in range(count)]
    client = fleet.client(key)

    def one(number: int) -> tuple[str, str]:
        content = random.Random(seed + number).randbytes(sizes[number])
        name = f"file-{number}.bin"
        return persist(lambda: client.files.create(file=(name, content), purpose="user_data")).id, digest(content)

    def read(given: tuple[str, str]) -> bool:
        return digest(persist(lambda: client.files.content(given[0]).content)) == given[1]

    with ThreadPoolExecutor(8) as threads:
        files = list(threads.map(one, range(count)))
        assert len({id for id, _ in files}) == count
        assert all(threads.map(read, files))
    listed = {file.id: file.bytes for file in client.files.list(limit=10_000)}
    assert [listed[id] for id, _ in files] == sizes
    return sum(sizes)


def upload_in_parts(fleet: Fleet, key: str, size: int, seed: int) -> int:
    """Upload a file in parts, and return the most memory that a replica had.

    In the middle of a part the client goes; in the middle of another the replica is killed that takes it. Both parts
    are sent again, as clients do.
    """
    client = fleet.client(key).with_options(timeout=1200)
    upload = client.uploads.create(
        bytes=size, filename="large.bin", mime_type="application/octet-stream", purpose="user_data"
    )
    whole, parts = hashlib.sha256(), []
    count = -(-size // PART_BYTES)
    broken = {max(0, count // 3), max(0, 2 * count // 3)}
    peak = 0
    for number in range(count):
        content = random.Random(seed + number).randbytes(min(PART_BYTES, size - number * PART_BYTES))
        whole.update(content)
        if number in broken:
            kills = number == max(broken)
            victim = fleet.replicas[number % len(fleet.replicas)]
            send_half(
                victim.port, key, f"/v1/uploads/{upload.id}/parts", content, before_end=victim.kill if kills else None
            )
            if kills:
                victim.start()
                victim.wait_ready()
        parts.append(persist(lambda content=content: client.uploads.parts.create(upload.id, data=content)).id)
        peak = max(peak, *(replica.peak_bytes() for replica in fleet.replicas))
    done = persist(lambda: client.uploads.complete(upload.id, part_ids=parts))
    assert done.file is not None and done.file.bytes == size
    read = hashlib.sha256()
    with httpx.stream(
        "GET", f"{fleet.url}/files/{done.file.id}/content", headers={"Authorization": f"Bearer {key}"}, timeout=1200
    ) as answer:
        for piece in answer.iter_bytes(_READ):
            read.update(piece)
    assert read.hexdigest() == whole.hexdigest()
    persist(lambda: client.files.delete(done.file.id))
    return max(peak, *(replica.peak_bytes() for replica in fleet.replicas))


def send_half(port: int, key: str, path: str, content: bytes, before_end=None) -> None:  # noqa: ANN001
    """Send half of a part over a connection that then breaks; `before_end` is called while it is open."""
    boundary = "x" * 30
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="data"; filename="p"\r\n\r\n'.encode()
    length = len(head) + len(content) + len(boundary) + 8
    request = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=300) as connection:
        connection.sendall(request + head)
        connection.sendall(content[: len(content) // 2])
        if before_end is not None:
            before_end()


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()
