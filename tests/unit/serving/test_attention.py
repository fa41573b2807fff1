"""Attention without blocks, where its scores take little memory and nobody has said otherwise."""

import os

import pytest

from tunesmith_serving.engines.text_generation.batching import attention

SWITCH = "ORT_GQA_DISABLE_FLASH_ATTENTION"


@pytest.mark.parametrize(("context", "switch"), [(4096, "1"), (131_072, "0")])
def test_long_rows_have_their_attention_in_blocks(context: int, switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_GIVEN", False)
    monkeypatch.setenv(SWITCH, "")
    attention.choose_attention(heads=32, tokens=128, context=context)
    assert os.environ[SWITCH] == switch


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_GIVEN", True)
    monkeypatch.setenv(SWITCH, "0")
    attention.choose_attention(heads=32, tokens=128, context=4096)
    assert os.environ[SWITCH] == "0"
