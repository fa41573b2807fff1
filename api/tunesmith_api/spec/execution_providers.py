"""The execution providers of ONNX Runtime that a server can compute with: `spec.runtime.executionProvider`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExecutionProvider = Literal["cpu", "cuda", "tensorrt", "openvino", "vitisai", "cann", "migraphx"]
CPU: ExecutionProvider = "cpu"

_GPU_PRECISIONS = ("fp16", "bf16", "int4", "fp32")
_GENERATES_IN_16_BITS = {"textGeneration": ("fp16", "bf16")}


@dataclass(frozen=True)
class ProviderInfo:
    """What an execution provider computes, and what it takes.

    Attributes:
        ort_name: Its name in ONNX Runtime.
        precisions: The precisions of an export that it may compute; the first that an artifact holds is the default.
        package: The Python package that brings it, beside or instead of onnxruntime.
        resource: Resource that stands for its device on Kubernetes' nodes; None if there is no usual one.
        needs_device: Whether it always takes a device; OpenVINO also computes on the CPU.
        options: The options that it takes; None if they are not known, and then all are passed on.
        by_task: Fewer precisions for some tasks. On CUDA devices, GroupQueryAttention of generative models has kernels
            for 16 bits only, and their int4 exports, which are for the CPU, have it in fp32.
    """

    ort_name: str
    precisions: tuple[str, ...]
    package: str
    resource: str | None
    needs_device: bool = True
    options: tuple[str, ...] | None = None
    by_task: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def precisions_of(self, task: str | None) -> tuple[str, ...]:
        """Return the precisions that it may compute of a task's exports; of any task's for None."""
        return dict(self.by_task).get(task or "", self.precisions)


_CUDA_OPTIONS = (
    "arena_extend_strategy", "cudnn_conv1d_pad_to_nc1d", "cudnn_conv_algo_search", "cudnn_conv_use_max_workspace",
    "device_id", "do_copy_in_default_stream", "enable_skip_layer_norm_strict_mode", "fuse_conv_bias", "gpu_mem_limit",
    "prefer_nhwc", "sdpa_kernel", "tunable_op_enable", "tunable_op_max_tuning_duration_ms", "tunable_op_tuning_enable",
    "use_ep_level_unified_stream", "use_tf32",
)  # fmt: skip
_TENSORRT_OPTIONS = (
    "device_id",
    *(f"trt_{name}" for name in (
        "auxiliary_streams", "bf16_enable", "build_heuristics_enable", "builder_optimization_level",
        "context_memory_sharing_enable", "detailed_build_log", "dla_core", "dla_enable", "dump_subgraphs",
        "engine_cache_enable", "engine_cache_path", "engine_cache_prefix", "engine_hw_compatible",
        "force_sequential_engine_build", "force_timing_cache", "fp16_enable", "int8_calibration_table_name",
        "int8_enable", "int8_use_native_calibration_table", "layer_norm_fp32_fallback", "max_partition_iterations",
        "max_workspace_size", "min_subgraph_size", "op_types_to_exclude", "preview_features", "profile_max_shapes",
        "profile_min_shapes", "profile_opt_shapes", "sparsity_enable", "tactic_sources", "timing_cache_enable",
        "timing_cache_path",
    )),
)  # fmt: skip
_MIGRAPHX_OPTIONS = (
    "device_id",
    *(f"migraphx_{name}" for name in (
        "arena_extend_strategy", "bf16_enable", "exhaustive_tune", "fp16_enable", "fp8_enable",
        "int8_calibration_table_name", "int8_enable", "int8_use_native_calibration_table", "mem_limit",
        "model_cache_dir",
    )),
)  # fmt: skip
_CANN_OPTIONS = (
    "arena_extend_strategy", "device_id", "dump_graphs", "dump_om_model", "dynamic_batch_size", "dynamic_dims",
    "dynamic_image_size", "enable_cann_graph", "enable_cann_subgraph", "input_format", "npu_mem_limit",
    "op_select_impl_mode", "optypelist_for_implmode", "precision_mode_v2",
)  # fmt: skip

EXECUTION_PROVIDERS: dict[str, ProviderInfo] = {
    "cpu": ProviderInfo(
        "CPUExecutionProvider", ("int4", "int8", "fp32"), "onnxruntime", None, needs_device=False, options=()
    ),
    "cuda": ProviderInfo(
        "CUDAExecutionProvider",
        _GPU_PRECISIONS,
        "onnxruntime-gpu[cuda,cudnn]",
        "nvidia.com/gpu",
        options=_CUDA_OPTIONS,
        by_task=tuple(_GENERATES_IN_16_BITS.items()),
    ),
    "tensorrt": ProviderInfo(
        "TensorrtExecutionProvider",
        _GPU_PRECISIONS,
        "onnxruntime-gpu[cuda,cudnn] and tensorrt",
        "nvidia.com/gpu",
        options=_TENSORRT_OPTIONS,
        by_task=tuple(_GENERATES_IN_16_BITS.items()),
    ),
    "openvino": ProviderInfo(
        "OpenVINOExecutionProvider",
        ("int4", "int8", "fp32"),
        "onnxruntime-ep-openvino",
        "gpu.intel.com/i915",
        needs_device=False,
        options=("device_type", "load_config"),
    ),
    "vitisai": ProviderInfo("VitisAIExecutionProvider", ("int8", "fp32"), "AMD's build of onnxruntime-vitisai", None),
    "cann": ProviderInfo(
        "CANNExecutionProvider", ("fp16", "fp32"), "onnxruntime-cann", "huawei.com/Ascend910", options=_CANN_OPTIONS
    ),
    "migraphx": ProviderInfo(
        "MIGraphXExecutionProvider",
        ("fp16", "int4", "fp32"),
        "onnxruntime-migraphx",
        "amd.com/gpu",
        options=_MIGRAPHX_OPTIONS,
        by_task=(("textGeneration", ("fp16",)),),
    ),
}
"""Each value of `spec.runtime.executionProvider`."""
