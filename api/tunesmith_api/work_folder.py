"""The layout of a job's work folder, for the stages that write it and for whatever follows their progress."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

STAGE_MARKER = "stage.json"
"""Written last into a stage's folder: the stage is complete if and only if it is there."""
STAGE_INPUTS = "inputs.json"
"""Digest of what a stage in progress depends on."""
MEASURED = "measured.json"
"""Memory and duration of a stage: `{memory, gpuMemory?, seconds, secondsPerStep?}`."""


class Stage(StrEnum):
    """The three stages of a job, in order."""

    PREPARE = "prepare"
    TRAIN = "train"
    PUBLISH = "publish"


@dataclass(frozen=True)
class WorkFolder:
    """The folder that the stages of one job share.

    A stage writes into its own folder only, and writes `stage.json` there last: the stage is complete if it exists.

    Attributes:
        root: The folder itself.
    """

    root: Path

    @property
    def config(self) -> Path:
        """The job's `JobConfig` as JSON."""
        return self.root / "config.json"

    @property
    def config_maps(self) -> Path:
        """ConfigMaps as a kubelet mounts them: `config-maps/NAME/KEY`."""
        return self.root / "config-maps"

    @property
    def progress(self) -> Path:
        """The newest progress, replaced atomically: the fields of a status's `progress`, and `stage`."""
        return self.root / "progress.json"

    @property
    def artifact(self) -> Path:
        """Where the artifact goes when the job names no output."""
        return self.root / "artifact"

    def checkpoint_artifacts(self) -> list[Path]:
        """Return where artifacts of checkpoints are when the job names no output."""
        return list(self.root.glob(f"{self.artifact.name}-step-*"))  # as `artifact.checkpoint_uri` names them

    def lock(self, node_rank: int = 0) -> Path:
        """Return the file that a stage locks while it runs on the node of that rank."""
        return self.root / (f".stage-{node_rank}.lock" if node_rank else ".stage.lock")

    def stage(self, stage: Stage) -> Path:
        """Return the folder of a stage."""
        return self.root / stage.value

    def stage_marker(self, stage: Stage) -> Path:
        """Return the file that marks a stage as complete by its existence."""
        return self.stage(stage) / STAGE_MARKER

    def measured(self, stage: Stage) -> Path:
        """Return the file with what was measured of a stage, as in a status's `measured`.

        It is not in the stage's result, which is the same in every run of a job.
        """
        return self.stage(stage) / MEASURED

    def outcome(self, stage: Stage) -> Path:
        """Return the file with the last outcome of a stage: `{reason, message, remedy}` or `{reason: "Completed"}`."""
        return self.root / f"{stage.value}-outcome.json"

    @property
    def prepared_model(self) -> Path:
        """The base model in the transformers layout (absent when a folder is used in place)."""
        return self.stage(Stage.PREPARE) / "model"

    @property
    def adapter_start(self) -> Path:
        """The matrices that an adapter begins with where they are a part of the base weights (absent otherwise)."""
        return self.stage(Stage.PREPARE) / "adapter-start.safetensors"

    @property
    def resolved(self) -> Path:
        """The values that training chose and why, as in a status's `resolved`."""
        return self.stage(Stage.TRAIN) / "resolved.json"

    @property
    def adjusted(self) -> Path:
        """The values that training has changed because it ran out of memory, which later attempts follow."""
        return self.stage(Stage.TRAIN) / "adjusted.json"

    @property
    def training_log(self) -> Path:
        """One JSON object a line for each logged step."""
        return self.stage(Stage.TRAIN) / "training_log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the training checkpoints."""
        return self.stage(Stage.TRAIN) / "checkpoints"

    @property
    def final(self) -> Path:
        """The trained weights: a PEFT adapter, or a whole model for method full."""
        return self.stage(Stage.TRAIN) / "final"

    @property
    def epoch_ends(self) -> Path:
        """The weights at the ends of epochs that are published too: `step-N`, in the layout of `final` (or absent)."""
        return self.stage(Stage.TRAIN) / "epochs"

    def epoch_end(self, step: int) -> Path:
        """Return the folder with the weights of a step at the end of an epoch."""
        return self.epoch_ends / f"step-{step}"
