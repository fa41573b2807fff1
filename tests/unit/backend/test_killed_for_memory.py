"""Training that the kernel ends for its memory is started again, and told so; what somebody killed is not."""

from pathlib import Path
from typing import Any

import pytest

from tunesmith_api.local.files import write_json
from tunesmith_api.local.oom_kills import oom_kills
from tunesmith_api.objects import FineTuneJob
from tunesmith_api.work_folder import Stage
from tunesmith_backend.local import job as module
from tunesmith_backend.local.job import LocalJob

JOB = {
    "apiVersion": "tunesmith.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "tiny"},
    "spec": {"model": {"scratch": {}}, "dataset": {"sources": [{"uri": "./rows.jsonl"}]}},
}


@pytest.mark.parametrize(
    ("stage", "by_kernel", "codes", "told"),
    [
        (Stage.TRAIN, True, [-9, -9, 0], ["", "1", "2"]),
        (Stage.TRAIN, True, [-9, 14], ["", "1"]),  # nothing is left to lower
        (Stage.TRAIN, False, [-9], [""]),
        (Stage.TRAIN, True, [70], [""]),
        (Stage.PUBLISH, True, [-9], [""]),
    ],
)
def test_it_is_told_how_often(
    stage: Stage, by_kernel: bool, codes: list[int], told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = LocalJob(FineTuneJob.model_validate(JOB), tmp_path, tmp_path / "work")
    started: list[str] = []
    kills = 3

    def start(*_: Any, env: dict[str, str], **__: Any) -> None:
        started.append(env.get("TUNESMITH_KILLED_FOR_MEMORY", ""))
        if started[-1]:  # as training records it
            job.work.adjusted.parent.mkdir(parents=True, exist_ok=True)
            write_json(job.work.adjusted, {"kills": int(started[-1])})

    def wait(*_: Any) -> int:
        nonlocal kills
        code = codes[len(started) - 1]
        kills += by_kernel and code == -9
        return code

    monkeypatch.setattr(module.children, "start", start)
    monkeypatch.setattr(module.children, "wait", wait)
    monkeypatch.setattr(module, "oom_kills", lambda: kills)
    assert job._run_process(stage) == codes[-1]
    assert started == told


def test_the_kernels_count_is_read(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == 0
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "vmstat").write_text("nr_free_pages 7\noom_kill 12\nswap_ra 0\n")
    assert oom_kills(tmp_path) == 12
