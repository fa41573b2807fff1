"""The requests of docs/serving.md, run as they stand there against a server each."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.serving_process import ServingProcess
from support.source_tree import ROOT
from support.tiny_translation import make_translator

ADDRESS = "http://127.0.0.1:8080"
SECTIONS = {
    "Structured outputs": ("quickstart", 2),
    "Responses": ("quickstart", 1),
    "Text generation in other protocols": ("quickstart", 4),
    "Translation": ("translator", 4),
}


def examples(section: str) -> list[tuple[str, str]]:
    """The blocks of a section that can be run: language and content."""
    text = (ROOT / "docs" / "serving.md").read_text()
    body = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [(kind, block) for kind, block in re.findall(r"```(sh|python)\n(.*?)```", body, re.DOTALL)]


@pytest.mark.parametrize("section", list(SECTIONS))
def test_what_the_document_shows_works(
    section: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    name, count = SECTIONS[section]
    artifact: Path
    if name == "translator":
        artifact = make_translator(tmp_path_factory.mktemp("documented") / "t5", prefix="translate German to English: ")
    else:
        artifact = request.getfixturevalue("artifact")
    ran = 0
    options = ("--precision", "fp32", "--model-name", name, "--threads", "1", "--context-length", "256")
    with ServingProcess(artifact, *options) as server:
        for kind, block in examples(section):
            code = block.replace(ADDRESS, server.url)
            assert code != block, "the example does not name the server's address"
            # Each command by itself: curl -f makes a refused request a failure.
            commands = code.split("\n\ncurl ") if kind == "sh" else [code]
            for index, command in enumerate(commands):
                if kind == "python":
                    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=300)
                else:
                    line = f"curl {command}" if index else command
                    done = subprocess.run(["bash", "-ec", line], capture_output=True, text=True, timeout=300)
                    assert done.stdout.startswith(("data: ", "{", "[")), (command, done)
                    for part in done.stdout.removeprefix("data: ").split("\n\ndata: "):
                        assert "error" not in json.loads(part)
                assert done.returncode == 0 and done.stdout.strip(), (command, done)
                ran += 1
    assert ran == count


def test_the_documented_columns_read_a_squad_file(tmp_path: Path) -> None:
    (columns,) = re.findall(r"columns: {(instruction: question.*?)}", (ROOT / "docs" / "serving.md").read_text())
    row = {"id": "1", "question": "Who?", "context": "It was Ada.", "answers": {"text": ["Ada"], "answer_start": [7]}}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 2)
    options = [part for pair in columns.split(", ") for part in ("--column", pair.replace(": ", "="))]
    command = [sys.executable, "-m", "tunesmith_cli", "data", str(tmp_path / "rows.jsonl"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"user: Who\?\S*\s+\S*\s+It was Ada\.\s+assistant: Ada", done.stdout), done.stdout
