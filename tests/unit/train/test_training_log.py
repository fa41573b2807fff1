"""The training log reads as one run, however often it was cut and taken up again."""

from pathlib import Path

from tunesmith_trainer.train.training_log import TrainingLog, read_log


def test_a_line_waits_for_its_evaluation(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path / "log.jsonl", 0)
    log.add({"step": 1, "loss": 2.0})
    assert read_log(log.path) == []
    log.add({"step": 2, "loss": 1.5})
    log.amend(evalLoss=1.7)
    log.add({"step": 3, "loss": 1.25})
    log.flush()
    assert read_log(log.path) == [
        {"step": 1, "loss": 2.0},
        {"step": 2, "loss": 1.5, "evalLoss": 1.7},
        {"step": 3, "loss": 1.25},
    ]


def test_taken_up_again_it_goes_on_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1, "loss": 0.1}\n{"step": 2, "loss": 0.2}\n{"step": 3, "loss": 0.3}\n{"step": 4, "lo')
    log = TrainingLog(path, 2)
    log.add({"step": 3, "loss": 0.30000000000000004})
    log.flush()
    assert [(e["step"], e["loss"]) for e in read_log(path)] == [(1, 0.1), (2, 0.2), (3, 0.30000000000000004)]


def test_from_the_beginning_it_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n')
    TrainingLog(path, 0)
    assert path.read_bytes() == b""
