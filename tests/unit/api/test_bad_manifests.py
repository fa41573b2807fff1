"""Each bad manifest gives one finding: file, line, field, what is wrong and what to do. expected.txt holds them all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith_api.manifests import load_manifests

FOLDER = Path(__file__).parents[2] / "data" / "bad-manifests"
TABLE = FOLDER / "expected.txt"
EXPECTED = dict(re.match(r"([^:]+)(.*)", line).groups() for line in TABLE.read_text().splitlines())
FILES = sorted(path.name for path in FOLDER.iterdir() if path != TABLE)
# What a remedy tells people to do.
VERBS = {"write", "remove", "correct", "add", "name", "lower", "raise", "swap", "did you mean", "keep"}


def test_the_table_names_every_file():
    assert sorted(EXPECTED) == FILES
    assert len(FILES) >= 40


@pytest.mark.parametrize("name", FILES)
def test_one_finding_says_where_what_and_what_to_do(name):
    manifests = load_manifests([FOLDER / name])
    (finding,) = manifests.findings
    assert str(finding) == f"{FOLDER / name}{EXPECTED[name]}"
    assert finding.message
    assert any(verb in finding.remedy.lower() for verb in VERBS), finding.remedy
    assert "\n" not in str(finding)
    assert 0 <= finding.line <= len((FOLDER / name).read_bytes().splitlines())


def test_only_files_that_are_no_text_have_no_line():
    assert [name for name in FILES if load_manifests([FOLDER / name]).findings[0].line == 0] == ["utf-16.yaml"]


def test_the_command_line_prints_them_without_a_traceback():
    command = [sys.executable, "-m", "tunesmith_cli", "validate", "-f", FOLDER]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for name in FILES:
        assert f"{FOLDER / name}" in result.stderr
