"""The execution provider that a session computes with: found in the installed ONNX Runtime, with its options.

ONNX Runtime computes on the CPU what a provider does not take, without a word, and all of it where a provider cannot be
loaded. A server that was to compute on a device would then be slow, so such a session is refused.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import onnxruntime as ort

from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS
from tunesmith_serving.runtime.config import ServingConfig
from tunesmith_serving.runtime.errors import ProviderError

_CPU = EXECUTION_PROVIDERS[CPU].ort_name
_OPENVINO_PLUGIN = "onnxruntime_ep_openvino"
# ONNX Runtime puts nodes that compute shapes on the CPU on purpose, where their few numbers are needed.
_SHAPE_OPS = frozenset(
    {
        *("Shape", "Size", "Gather", "Concat", "Slice", "Unsqueeze", "Squeeze", "Reshape", "Cast", "Range", "Constant"),
        *("ConstantOfShape", "Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Where", "ReduceSum", "ReduceProd"),
    }
)
_SHOWN = 8
_registering = threading.Lock()


@dataclass(frozen=True)
class Provider:
    """An execution provider and its options.

    Attributes:
        name: `spec.runtime.executionProvider`.
        options: `spec.runtime.providerOptions`.
    """

    name: str = CPU
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def device_type(self) -> str:
        """The device whose memory a session reads and writes, as ONNX Runtime names it."""
        return {"cuda": "cuda", "tensorrt": "cuda", "cann": "cann"}.get(self.name, "cpu")

    @property
    def device_id(self) -> int:
        """The number of the device."""
        return int(self.options.get("device_id", "0"))

    @property
    def on_device(self) -> bool:
        """Whether the key-value cache is in the device's memory."""
        return self.device_type != "cpu"

    @property
    def copies_inputs(self) -> bool:
        """Whether an input is copied when it is bound, so that later changes of the array have no effect."""
        return self.on_device or self.name != CPU

    @property
    def copies_cache(self) -> bool:
        """Whether that holds for the key-value cache too; attention on the CPU reads and writes it where it is."""
        return self.copies_inputs and not self.on_device and self.name != "openvino"

    def allows(self, ort_name: str, op_type: str) -> bool:
        """Return whether a node may be computed by another provider of ONNX Runtime.

        Args:
            ort_name: The other provider.
            op_type: The node's operator.
        """
        if ort_name == _CPU:
            # Where OpenVINO computes on the CPU too, nothing is copied. Its own GroupQueryAttention takes one row only.
            is_cpu = self.name == "openvino" and self.options.get("device_type", "CPU") == "CPU"
            return op_type in _SHAPE_OPS or (is_cpu and op_type == "GroupQueryAttention")
        return self.name == "tensorrt" and ort_name == EXECUTION_PROVIDERS["cuda"].ort_name


CPU_PROVIDER = Provider()


def provider_of(config: ServingConfig) -> Provider:
    """Return the execution provider of a server."""
    return Provider(config.execution_provider, dict(config.provider_options or {}))


def add_provider(options: Any, provider: Provider, threads: int) -> list[tuple[str, dict[str, str]]]:  # noqa: ANN401
    """Prepare a session's options for a provider that is not the CPU's.

    Args:
        options: onnxruntime.SessionOptions.
        provider: The provider.
        threads: Threads that compute together, where it computes on the CPU.

    Returns:
        The session's `providers`; none where a plug-in is in the options.

    Raises:
        ProviderError: It is not installed, or has no such device.
    """
    # So that the session says which provider computes which node.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    info = EXECUTION_PROVIDERS[provider.name]
    if provider.name == "openvino":
        options.add_provider_for_devices([_openvino_device(provider)], _openvino_options(provider, threads))
        return []
    if info.ort_name not in ort.get_available_providers():
        raise ProviderError(
            f"the installed ONNX Runtime has no {info.ort_name}, which executionProvider {provider.name} needs: use "
            f"the serving image of that provider (PROVIDER={provider.name}), or install {info.package} in place of "
            "onnxruntime"
        )
    if provider.device_type == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if provider.name == "tensorrt":
        with suppress(ImportError):
            import_module("tensorrt")  # it loads the libraries that ONNX Runtime then finds
    chosen = [(info.ort_name, dict(provider.options))]
    if provider.name == "tensorrt":
        chosen.append((EXECUTION_PROVIDERS["cuda"].ort_name, {"device_id": str(provider.device_id)}))
    return chosen


def check_session(session: Any, provider: Provider) -> None:  # noqa: ANN401
    """Check that a session computes with the provider that was asked for.

    Args:
        session: onnxruntime.InferenceSession.
        provider: The provider.

    Raises:
        ProviderError: The provider could not be loaded, or did not take all nodes but those that compute shapes.
    """
    name = EXECUTION_PROVIDERS[provider.name].ort_name
    if name not in session.get_providers():
        raise ProviderError(
            f"{name} could not be loaded, and ONNX Runtime would compute on the CPU instead: see that the server has a "
            f"device (resources.accelerators) with its driver, and the libraries of "
            f"{EXECUTION_PROVIDERS[provider.name].package}"
        )
    graphs = session.get_provider_graph_assignment_info()
    nodes = [(graph.ep_name, node) for graph in graphs for node in graph.get_nodes()]
    left = [(other, node) for other, node in nodes if other != name and not provider.allows(other, node.op_type)]
    if left or all(other != name for other, _ in nodes):
        raise ProviderError(
            f"{name} does not take the whole model; {len(left or nodes)} of its {len(nodes)} nodes would be computed "
            f"on the CPU: {_listed(node for _, node in left or nodes)}. Serve a precision that it computes "
            f"({', '.join(EXECUTION_PROVIDERS[provider.name].precisions)}), or choose another executionProvider"
        )


def _listed(nodes: Iterable[Any]) -> str:
    """Return nodes by their operators, most frequent first, with the name of one of each."""
    found = list(nodes)
    names = {node.op_type: node.name for node in reversed(found)}
    counts = Counter(node.op_type for node in found).most_common()
    shown = [f"{count} {op} (such as {names[op] or 'one without a name'})" for op, count in counts[:_SHOWN]]
    more = f" and {len(counts) - _SHOWN} other operators" if len(counts) > _SHOWN else ""
    return ", ".join(shown) + more


def _openvino_device(provider: Provider) -> Any:  # noqa: ANN401
    """Return the device of OpenVINO's plug-in that `device_type` names."""
    wanted = provider.options.get("device_type", "CPU")
    try:
        plugin = import_module(_OPENVINO_PLUGIN)
    except ImportError:
        raise ProviderError(
            "OpenVINO's plug-in for ONNX Runtime is not installed, which executionProvider openvino needs: use the "
            "serving image of that provider (PROVIDER=openvino), or install onnxruntime-ep-openvino beside onnxruntime"
        ) from None
    name = plugin.get_ep_name()
    with _registering:
        if all(device.ep_name != name for device in ort.get_ep_devices()):
            ort.register_execution_provider_library(name, plugin.get_library_path())
        devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    kinds = {str(device.ep_metadata.get("ov_device")): device for device in devices}
    if wanted not in kinds:
        raise ProviderError(
            f"OpenVINO finds no device {wanted} here, but {', '.join(sorted(kinds)) or 'none'}: correct "
            "providerOptions.device_type, or see to the device's driver"
        )
    return kinds[wanted]


def _openvino_options(provider: Provider, threads: int) -> dict[str, str]:
    """Return the options of OpenVINO's plug-in.

    On CPUs with bf16 arithmetic OpenVINO would compute in bf16, which the artifact was not checked with.

    Raises:
        ProviderError: `load_config` is not a JSON object of objects.
    """
    device = provider.options.get("device_type", "CPU")
    config: dict[str, dict[str, object]] = {}
    if device == "CPU":
        config = {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}}
    try:
        for key, values in json.loads(provider.options.get("load_config", "{}")).items():
            config[key] = {**config.get(key, {}), **values}
    except (ValueError, TypeError, AttributeError):
        raise ProviderError(
            "providerOptions.load_config must be a JSON object of OpenVINO's properties by device, such as "
            '{"CPU": {"NUM_STREAMS": "1"}}'
        ) from None
    return {"load_config": json.dumps(config)} if config else {}
