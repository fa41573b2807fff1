"""Atomic writes and the reading of JSON files."""

import os
import threading

from tunesmith_api.local.files import read_json, write_atomic, write_json


def test_a_json_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "new" / "value.json"
    write_json(path, {"text": "naïve"})
    assert read_json(path) == {"text": "naïve"}
    assert path.read_bytes() == '{\n  "text": "naïve"\n}\n'.encode()
    assert os.listdir(path.parent) == ["value.json"]


def test_an_absent_or_a_broken_file_is_none(tmp_path):
    assert read_json(tmp_path / "none.json") is None
    (tmp_path / "half.json").write_text('{"a": ')
    assert read_json(tmp_path / "half.json") is None


def test_a_reader_never_sees_a_part(tmp_path):
    path, stop = tmp_path / "file", threading.Event()
    contents = [bytes([letter]) * 300_000 for letter in b"ab"]
    write_atomic(path, contents[0], sync=False)

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                write_atomic(path, content, sync=False)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert {path.read_bytes() in contents for _ in range(200)} == {True}
    finally:
        stop.set()
        writer.join()
