"""The onnxruntime-genai model builder as a process of its own: requests as JSON lines in, answers as JSON lines out.

A request is `{model, output, precision, options: ["key=value", ...]}`, its answer `{}` or `{error}`. Whatever
the builder prints goes to standard error. The process ends when its standard input is closed. Its imports take
seconds; if it is started early, they overlap with the evaluation.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from tunesmith_trainer.runtime.model_libraries import importing_models


def main() -> int:
    """Answer requests until standard input is closed."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the builder and its libraries print to standard output
    with importing_models():
        from onnxruntime_genai.models import builder

    for line in sys.stdin:
        try:
            build(builder, **json.loads(line))
            answer = {}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.flush()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0


def build(builder: Any, model: str, output: str, precision: str, options: list[str]) -> None:  # noqa: ANN401
    """Export the transformers model in a folder to another folder: in 16 bits for GPUs, else for the CPU."""
    from tunesmith_trainer.export.corrections import correct, stage_model
    from tunesmith_trainer.export.ragged import write_ragged
    from tunesmith_trainer.export.streamed_builder import streamed

    provider, int8 = "cuda" if precision in ("fp16", "bf16") else "cpu", precision == "int8"
    if int8:
        # The embedding stays as it is; a matrix of its own leaves the output layer's to be quantised.
        precision, options = "fp32", [*options, "shared_embeddings=false"]
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as staged, streamed(builder, int8=int8):
        corrections = stage_model(Path(model), Path(staged))
        prepared = builder.parse_extra_options("", staged, output, precision, provider, cache, options)
        builder.create_model("", staged, output, precision, provider, cache, **prepared)
    correct(Path(output), corrections)
    if provider == "cpu":
        write_ragged(Path(output))


if __name__ == "__main__":
    sys.exit(main())
