"""The export for runs of several tokens, and what int8 asks of a processor."""

from tunesmith_api.artifact import LORA, MODEL_FILES
from tunesmith_serving.artifact.opening import Artifact, open_artifact
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.cpus import multiplies_bytes
from tunesmith_serving.runtime.errors import ArtifactError

_INT8 = "int8"


def open_batch(artifact: Artifact, config: ServingConfig) -> Artifact | None:
    """Return the export for runs of several tokens, verified; None if one export computes everything.

    Raises:
        ArtifactError: The artifact does not hold it, or adapters are served on it, or the processor is too old.
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
    require_vnni(batch)
    return batch


def require_vnni(artifact: Artifact) -> None:
    """Check that the processor computes an export rightly.

    Raises:
        ArtifactError: The export is in int8, and the processor lacks what it needs.
    """
    if artifact.onnx.name == _INT8 and not multiplies_bytes():
        raise ArtifactError(
            f"{artifact.onnx} needs a processor with AVX-512 VNNI, AVX-VNNI or AMX (Intel from Ice Lake on, AMD from "
            "Zen 4 on), whose sums of products do not overflow; choose such nodes, or spec.runtime.precision: int4 "
            "without batchPrecision"
        )
