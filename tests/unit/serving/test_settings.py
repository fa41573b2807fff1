import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from tunesmith_api.spec.runtime import RuntimeSpec
from tunesmith_serving.http.body import field_path
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.cpus import available_cpus
from tunesmith_serving.runtime.retry import RetryEstimator


def test_runtime_spec_is_what_manifests_say() -> None:
    spec = RuntimeSpec.model_validate({"precision": "fp32", "contextLength": 4096, "maxBatchSize": 4})
    assert (spec.precision, spec.context_length, spec.max_batch_size, spec.max_queue_length) == ("fp32", 4096, 4, 64)
    assert RuntimeSpec().model_dump(by_alias=True) == {
        "precision": None,
        "batchPrecision": None,
        "executionProvider": "cpu",
        "providerOptions": None,
        "contextLength": 2048,
        "maxBatchSize": 8,
        "prefixCacheMemory": "auto",
        "draftTokens": 5,
        "maxQueueLength": 64,
    }


@pytest.mark.parametrize("model", [RuntimeSpec, ServingConfig])
def test_every_field_is_described(model: type[RuntimeSpec]) -> None:
    for name, field in model.model_fields.items():
        assert field.description and field.description.endswith("."), name
        assert field.default is not None or name in ("precision", "batch_precision", "provider_options"), name


@pytest.mark.parametrize(
    "value",
    [{"precision": "fp8"}, {"maxBatchSize": 0}, {"contextLength": 1}, {"executionProvider": "tpu"}, {"batch": 3}],
)
def test_bad_values(value: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RuntimeSpec.model_validate(value)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import tunesmith_serving.runtime.config", "numpy fastapi onnxruntime tokenizers"),
        ("import tunesmith_serving.http.app, tunesmith_serving.http.lifecycle", "numpy onnxruntime tokenizers"),
        (
            "import tunesmith_serving.engines.text_generation.engine, tunesmith_serving.engines.registry",
            "fastapi starlette uvicorn llguidance",
        ),
        # The trainer's image has the replay, and not all that answering takes.
        ("import tunesmith_serving.replay.run", "fastapi starlette uvicorn llguidance"),
        ("import tunesmith_serving.__main__", "numpy fastapi onnxruntime tokenizers torch"),
    ],
)
def test_parts_do_not_know_each_other(code: str, forbidden: str) -> None:
    check = f"{code}; import sys; print([name for name in {forbidden.split()!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", check], text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000"}, 1),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cpu_limits(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    import os

    assert available_cpus(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_error_paths() -> None:
    assert field_path(("messages", 0, "content")) == "messages[0].content"
    assert field_path(()) == ""


def test_retry_after_follows_the_load() -> None:
    retry = RetryEstimator()
    assert retry.retry_after(0, 8) == 1
    for _ in range(100):
        retry.finished(20)
    assert retry.retry_after(8, 8) == pytest.approx(10, abs=1)
    assert retry.retry_after(10_000, 1) == 60
