"""The export for runs of several tokens."""

from tunesmith_api.artifact import LORA, MODEL_FILES
from tunesmith_serving.artifact.opening import Artifact, open_artifact
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError


def open_batch(artifact: Artifact, config: ServingConfig) -> Artifact | None:
    """Return the export for runs of several tokens, verified; None if one export computes everything.

    Raises:
        ArtifactError: The artifact does not hold it, or adapters are served on it.
    """
    wanted = config.batch_precision
    if wanted is None or artifact.onnx.name == wanted:
        return None
    if LORA in artifact.files:
        raise ArtifactError(
            f"{artifact.folder} is a base that adapters are served on, and they are computed in one precision; remove "
            "spec.runtime.batchPrecision"
        )
    batch = open_artifact(artifact.folder, wanted)
    batch.require(*MODEL_FILES)
    return batch
