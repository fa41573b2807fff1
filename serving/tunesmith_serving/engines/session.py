"""Opening ONNX Runtime sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime as ort

from tunesmith_serving.runtime.cpus import available_cpus
from tunesmith_serving.runtime.errors import ArtifactError, MemoryShortageError

_NO_MEMORY = ("bad alloc", "bad_alloc", "failed to allocate", "cannot allocate memory", "not enough memory")


def open_session(path: Path, threads: int, *, same_shapes: bool = True) -> Any:  # noqa: ANN401 - it carries no types
    """Return a session of a model on the CPU.

    Args:
        path: The model's file.
        threads: Threads that compute together; 0 for all processors that this process may use.
        same_shapes: Whether most runs have inputs of the same shapes, so that their memory is worth planning.

    Raises:
        ArtifactError: The model does not load.
        MemoryShortageError: It does not fit in memory.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = same_shapes
    # Work is split into small blocks, so that a thread that loses its core does not delay the others.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        text = " ".join(str(error).split())
        if out_of_memory(error):
            raise MemoryShortageError(f"{path} does not fit in memory: {text}; give the server more memory") from None
        raise ArtifactError(f"{path} does not load: {text}; export the model again") from None


def knows_query_seqlens() -> bool:
    """Return whether the attention kernel takes rows with different numbers of new tokens."""
    major, minor = ort.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (1, 32)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of ONNX Runtime, or of Python, says that there is no memory left."""
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in _NO_MEMORY)
