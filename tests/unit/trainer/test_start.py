"""What a stage or a report says at once, it says without having loaded torch, which takes seconds."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["stages.command", "prepare.pipeline", "prepare.data_command", "publish"])
def test_begins_without_torch(module: str) -> None:
    code = f"import sys, tunesmith_trainer.{module}; print(sorted({{'torch', 'transformers'}} & sys.modules.keys()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout == "[]\n"
