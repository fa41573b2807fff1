"""Opening ONNX Runtime sessions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider, add_provider, check_session
from tunesmith_serving.runtime.cpus import available_cpus
from tunesmith_serving.runtime.errors import ArtifactError, MemoryShortageError, ProviderError

# An ONNX model, y = Identity(x), of bytes in one dimension.
_IDENTITY = bytes.fromhex(
    "08083a390a100a017812017922084964656e746974791201675a100a0178120b0a09080212050a0312016e62100a0179120b0a09080212050a"
    "0312016e42040a001011"
)
_NO_MEMORY = ("bad alloc", "bad_alloc", "failed to allocate", "cannot allocate memory", "not enough memory")


def open_session(path: Path, threads: int, provider: Provider = CPU_PROVIDER, *, same_shapes: bool = True) -> Any:  # noqa: ANN401 - it carries no types
    """Return a session of a model.

    Args:
        path: The model's file.
        threads: Threads that compute together; 0 for all processors that this process may use.
        provider: The execution provider that computes it, all of it.
        same_shapes: Whether most runs have inputs of the same shapes, so that their memory is worth planning.

    Raises:
        ArtifactError: The model does not load.
        MemoryShortageError: It does not fit in memory.
        ProviderError: The execution provider is not there, or does not compute the whole model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = same_shapes
    # Work is split into small blocks, so that a thread that loses its core does not delay the others.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    options.log_severity_level = 3
    is_cpu = provider.name == CPU_PROVIDER.name
    chosen: Any = ["CPUExecutionProvider"] if is_cpu else add_provider(options, provider, threads)
    try:
        # Without this, ONNX Runtime's Python part tries again on the CPU where a provider cannot be made.
        session = ort.InferenceSession(path, options, providers=chosen or None, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no common base class for its errors
        text = " ".join(str(error).split())
        if out_of_memory(error):
            raise MemoryShortageError(f"{path} does not fit in memory: {text}; give the server more memory") from None
        if not is_cpu:
            raise ProviderError(
                f"{path} does not load with executionProvider {provider.name}: {text}; correct providerOptions, or see "
                "to the device"
            ) from None
        raise ArtifactError(f"{path} does not load: {text}; export the model again") from None
    if not is_cpu:
        check_session(session, provider)
    return session


def bytes_copier(provider: Provider) -> Callable[[int, int, int], None]:
    """Return a function that copies bytes within the memory of a provider's device: from, to, how many.

    ONNX Runtime copies between its own tensors only, so a model of one Identity node does it.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session: Any = ort.InferenceSession(_IDENTITY, options, providers=add_provider(options, provider, 1))
    device = (provider.device_type, provider.device_id, np.uint8)

    def copy(source: int, target: int, count: int) -> None:
        binding = session.io_binding()
        binding.bind_input("x", *device, (count,), source)
        binding.bind_output("y", *device, (count,), target)
        session.run_with_iobinding(binding)

    return copy


def knows_query_seqlens() -> bool:
    """Return whether the attention kernel takes rows with different numbers of new tokens."""
    major, minor = ort.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (1, 32)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of ONNX Runtime, or of Python, says that there is no memory left."""
    return isinstance(error, MemoryError) or any(part in str(error).lower() for part in _NO_MEMORY)
