"""The registry of engines, one for each task."""

from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS
from tunesmith_api.spec.runtime import servable
from tunesmith_api.tasks import DEFAULT_TASK
from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.base import Engine, Loader
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ArtifactError


def _text_generation(artifact: Artifact, config: ServingConfig) -> Engine:
    # Imported here, so that only the engine that serves loads its libraries.
    from tunesmith_serving.engines.text_generation.engine import TextGenerationEngine

    return TextGenerationEngine.load(artifact, config)


def _one_pass(artifact: Artifact, config: ServingConfig) -> Engine:
    from tunesmith_serving.engines.one_pass.engine import OnePassEngine

    return OnePassEngine.load(artifact, config)


def _encoder_decoder(artifact: Artifact, config: ServingConfig) -> Engine:
    from tunesmith_serving.engines.encoder_decoder.engine import EncoderDecoderEngine

    return EncoderDecoderEngine.load(artifact, config)


LOADERS: dict[str, Loader] = {
    "textGeneration": _text_generation,
    "sequenceClassification": _one_pass,
    "tokenClassification": _one_pass,
    "questionAnswering": _one_pass,
    "translation": _encoder_decoder,
}
"""The engine's loader for each task that a manifest can name."""


def load_engine(artifact: Artifact, config: ServingConfig) -> Engine:
    """Load an artifact with the engine of its task.

    Raises:
        ArtifactError: No engine serves the task, or the artifact cannot be served.
        MemoryShortageError: The model does not fit in memory.
    """
    precision = artifact.onnx.name
    by = config.execution_provider, artifact.task
    if not servable([precision], *by):
        held = servable(artifact.manifest.get("precisions") or [], *by)
        first = EXECUTION_PROVIDERS[config.execution_provider].precisions_of(artifact.task)
        default = "fp32" if config.execution_provider == CPU else first[0]
        raise ArtifactError(
            f"the execution provider {config.execution_provider} cannot compute {precision} of the task "
            f"{artifact.task}; serve "
            f"{' or '.join(held) or f'{default}, which the job has to export (export.precisions)'}"
        )
    if config.draft_model and artifact.task != DEFAULT_TASK:
        raise ArtifactError(f"runtime.draftModel has no meaning for a model of the task {artifact.task}; remove it")
    loader = LOADERS.get(artifact.task)
    if loader is None:
        raise ArtifactError(
            f"{artifact.folder} holds a model for the task {artifact.task!r}; "
            f"this server serves {', '.join(sorted(LOADERS))}"
        )
    return loader(artifact, config)
