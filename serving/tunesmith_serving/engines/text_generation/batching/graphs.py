"""The graphs that a decoder runs: one export, or two of which one computes runs of several tokens.

Weights in int4 are fastest for a single token, which waits for memory: there are half as many bytes of them. Products
with weights in int8 are several times as fast as soon as there are several tokens, which wait for the processor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.local.cpus import INT8_PROCESSORS, multiplies_bytes
from tunesmith_serving.artifact.opening import Artifact
from tunesmith_serving.engines.providers import CPU_PROVIDER, Provider
from tunesmith_serving.engines.session import knows_query_seqlens, open_session
from tunesmith_serving.engines.text_generation.adapters.rows import RowAdapter
from tunesmith_serving.engines.text_generation.batching.binding import Session
from tunesmith_serving.runtime.errors import ArtifactError

RAGGED = "model.ragged.onnx"
_INT8 = "int8"
SEVERAL = 4
"""Tokens of a run from which weights in int8 are faster than in int4, on processors with VNNI or AMX."""


@dataclass(frozen=True)
class Graphs:
    """Sessions of exports of the same model.

    Attributes:
        path: The file of the first graph.
        ragged: Whether rows can have several new tokens each.
        first: The session that computes whatever no other does.
        several: The one for runs of several tokens; often the same.
    """

    path: Path
    ragged: bool
    first: Session
    several: Session

    def of(self, adapters: Sequence[RowAdapter], tokens: int) -> Session:
        """Return the session for a run.

        Args:
            adapters: The adapters of its rows; only the first graph takes any.
            tokens: The tokens of all rows together.
        """
        return self.several if tokens >= SEVERAL and not any(adapters) else self.first


def open_graphs(artifact: Artifact, batch: Artifact | None, threads: int, provider: Provider) -> Graphs:
    """Open the graphs.

    Args:
        artifact: What holds the model.
        batch: What holds the export for runs of several tokens, if it is another.
        threads: Threads that compute together; 0 for all processors that this process may use.
        provider: The execution provider that computes the model.

    Raises:
        ArtifactError: A graph does not load, the two do not fit together, or the processor cannot compute int8.
        MemoryShortageError: They do not fit in memory.
    """
    # Exports of earlier versions do not have the second graph, and other providers do not know its inputs.
    given = [artifact, batch] if batch else [artifact]
    is_cpu = provider.name == CPU_PROVIDER.name
    if is_cpu and not multiplies_bytes() and (int8 := next((each for each in given if each.onnx.name == _INT8), None)):
        raise ArtifactError(
            f"{int8.onnx} needs {INT8_PROCESSORS}; choose such nodes, or spec.runtime.precision: int4 without "
            "batchPrecision"
        )
    ragged = is_cpu and knows_query_seqlens() and all(RAGGED in each.files for each in given)
    paths = [each.onnx / (RAGGED if ragged else "model.onnx") for each in given]
    first, *others = (open_session(path, threads, provider) for path in paths)
    for path, other in zip(paths[1:], others, strict=True):
        _check_fit(path, other, paths[0], first)
    return Graphs(paths[0], ragged, first, others[0] if others else first)


def _check_fit(path: Path, graph: Session, first_path: Path, first: Session) -> None:
    """Check that a graph has the inputs and outputs of the first one."""
    for these, those in ((graph.get_inputs(), first.get_inputs()), (graph.get_outputs(), first.get_outputs())):
        found, wanted = ({value.name: (value.type, value.shape) for value in values} for values in (these, those))
        if found != wanted:
            wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise ArtifactError(f"{path} has another {wrong[0]} than {first_path}; export the model again")
