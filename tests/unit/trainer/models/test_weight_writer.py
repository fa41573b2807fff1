"""Files that are written tensor by tensor are those that the safetensors library writes at once."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tunesmith_trainer.models.weight_writer import SafetensorsWriter, empty, write_model

KINDS = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()


def tensors() -> dict[str, torch.Tensor]:
    made = {
        f"{letter}.{kind}.é": (torch.arange(6).reshape(3, 2) + number).to(getattr(torch, kind))
        for number, kind in enumerate(KINDS)
        for letter in "ba"
    }
    return {**made, "scalar": torch.tensor(2.5), "none": torch.zeros(0, 4), "turned": torch.rand(3, 5).T}


def layout_of(values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: empty(value.shape, value.dtype) for name, value in values.items()}


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {}])
def test_a_file_is_byte_for_byte_that_of_the_library(tmp_path: Path, metadata: dict[str, str]) -> None:
    values = tensors()
    plain = {name: value.contiguous() for name, value in values.items()}
    save_file(plain, tmp_path / "expected", metadata=metadata or None)
    with SafetensorsWriter(tmp_path / "written", layout_of(values), metadata) as writer:
        for name in reversed(values):
            writer.write(name, values[name])
    assert (tmp_path / "written").read_bytes() == (tmp_path / "expected").read_bytes()


def test_what_is_missing_or_does_not_fit_is_an_error(tmp_path: Path) -> None:
    layout = {"a": empty([2], torch.float32), "b": empty([2], torch.float32)}
    with pytest.raises(ValueError, match="1 tensors are missing, such as b"):
        write_model(tmp_path, layout, [("a", torch.zeros(2))], "50GB")
    for wrong in (torch.zeros(3), torch.zeros(2, dtype=torch.bfloat16)):
        with pytest.raises(ValueError, match="a is"):
            write_model(tmp_path, layout, [("a", wrong)], "50GB")
