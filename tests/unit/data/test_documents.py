"""The lines of rows that become several pieces, of which every piece has one."""

import json
from pathlib import Path

from tunesmith_trainer.data.documents import document_line, read_documents
from tunesmith_trainer.data.encode import Encoded
from tunesmith_trainer.data.rows import Row


def test_lines_of_pieces_are_read_by_row(tmp_path: Path) -> None:
    path, lines = tmp_path / "evaluation.jsonl", []
    for index, (row, is_first) in enumerate([("a", True), ("a", False), ("b", True), ("c", True), ("c", False)]):
        piece = Encoded(Row(f"f:{row}"), [index], [1])
        line = document_line(piece, index, is_first, {"name": row})
        assert line  # the stage leaves out lines that are empty
        lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines))
    found = list(read_documents(path, 10))
    assert [(lines[0]["name"], lines[0]["row"], len(lines)) for lines in found] == [
        ("a", 0, 2),
        ("b", 2, 1),
        ("c", 3, 2),
    ]
    assert found[0][0]["location"] == "f:a"
    assert [len(lines) for lines in read_documents(path, 1)] == [2]  # all pieces of the last row
    assert list(read_documents(tmp_path / "none", 3)) == []
