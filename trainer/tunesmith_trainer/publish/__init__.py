"""The publish stage: merge, evaluate, gate, export, check, and write the artifact.

The artifact holds `onnx/<precision>/` for each of `export.precisions` (there may be none), `adapter/` with lora and
dora, `model/` (the tuned model as safetensors, merged) only with `export.mergeWeights`, for method full too,
`evaluation.json`, `predictions.jsonl` if there are answers to compare, `training_log.jsonl`, `data_report.json`, and
`manifest.json`, which is written last. With `export.adapterOnly` there are no exports in it: they are in
the artifact of its base, which is written once for all jobs that share it.

If the stage is killed and run again, it ends with the same files, byte for byte; only `created` (the time of assembly)
and `measured` in the manifest differ, which are not part of the digest.
"""

from __future__ import annotations

from typing import Any

from tunesmith_api.methods import METHODS
from tunesmith_api.spec import JobConfig
from tunesmith_api.work_folder import WorkFolder
from tunesmith_trainer.runtime.model_libraries import MODELS, importing_models


def publish(config: JobConfig, work: WorkFolder) -> dict[str, Any]:
    """Turn trained weights into an artifact; steps that are already complete are not repeated.

    Returns:
        `{artifact: {uri, digest}, metrics: {before, after, served: {precision: ...}}, gates: [...], parity: {template:
        numbers, precision: numbers}}`.

    Raises:
        StageError: A gate or a parity check failed, an export failed, or the output cannot be written.
    """
    adapters = ("peft",) if METHODS[config.spec.method].trains_adapter else ()
    with importing_models(MODELS, *adapters):
        from tunesmith_trainer.publish.pipeline import run

    return run(config, work)
