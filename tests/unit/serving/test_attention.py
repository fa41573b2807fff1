"""Attention without blocks, where its scores take little memory and nobody has said otherwise."""

import os

import pytest

from tunesmith_serving.engines.text_generation.batching.attention import attention_for

SWITCH = "ORT_GQA_DISABLE_FLASH_ATTENTION"


@pytest.mark.parametrize(("context", "switch"), [(4096, "1"), (131_072, "0")])
def test_long_rows_have_their_attention_in_blocks(context: int, switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SWITCH, raising=False)
    with attention_for(heads=32, tokens=128, context=context):
        assert os.environ[SWITCH] == switch
    assert SWITCH not in os.environ


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    with attention_for(heads=32, tokens=128, context=4096):
        assert os.environ[SWITCH] == "0"
    assert os.environ[SWITCH] == "0"
