"""How a model is served: `spec.runtime` of an InferenceWorkspace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith_api.spec.base import Rule, SpecModel
from tunesmith_api.spec.execution_providers import CPU, EXECUTION_PROVIDERS, ExecutionProvider
from tunesmith_api.spec.quantity import CacheMemory, amount

ServedPrecision = Literal["int4", "int8", "fp16", "bf16", "fp32"]
OptionValue = Annotated[str, Field(max_length=4096)]


def servable(precisions: Iterable[object], provider: str = CPU, task: str | None = None) -> list[str]:
    """Return those of some exports' precisions that a server can compute, its default first.

    Args:
        precisions: The precisions.
        provider: `spec.runtime.executionProvider`.
        task: The task of the exports; None for any.
    """
    held = set(map(str, precisions))
    return [precision for precision in EXECUTION_PROVIDERS[provider].precisions_of(task) if precision in held]


def served_precision(
    held: Iterable[object], wanted: str | None = None, provider: str = CPU, task: str | None = None
) -> str | None:
    """Return the precision of an artifact that is served.

    Args:
        held: The precisions that it holds.
        wanted: `spec.runtime.precision`.
        provider: `spec.runtime.executionProvider`.
        task: The artifact's task; None for any.

    Returns:
        The wanted one, held or not; without one the first of the provider's that is held; None if none is.
    """
    return wanted or next(iter(servable(held, provider, task)), None)


def cannot_serve(precisions: Iterable[object], provider: str = CPU, task: str | None = None) -> str:
    """Return the end of a sentence about an artifact that holds none but other precisions, with what to do."""
    held = " and ".join(map(str, precisions))
    if provider != CPU:
        first = EXECUTION_PROVIDERS[provider].precisions_of(task)[0]
        return (
            f"holds only {held}, which the execution provider {provider} cannot compute; add {first} to its job's "
            "export.precisions, or choose another spec.runtime.executionProvider"
        )
    return (
        f"holds only {held}, which a server on the CPU cannot compute; add fp32, or a smaller one that its task has "
        "(int4, int8), to its job's export.precisions"
    )


def lacks_batch_precision(precision: str) -> str:
    """Return the end of a sentence about an artifact that does not hold `batchPrecision`, with what to do."""
    return (
        f"holds no {precision} model for spec.runtime.batchPrecision; add {precision} to its job's export.precisions, "
        "or remove batchPrecision"
    )


def _is_other(name: str) -> str:
    # The server validates `default: {}` before it fills in what is in it, hence has().
    absent = "" if name == CPU else "!has(self.executionProvider) || "
    present = "has(self.executionProvider) && " if name == CPU else ""
    return f"({absent}{present}self.executionProvider != '{name}')"


def _precision_rule(name: str) -> Rule:
    info = EXECUTION_PROVIDERS[name]
    known = info.precisions
    fewer = "".join(f"; for task {task}, {' or '.join(precisions)}" for task, precisions in info.by_task)
    return Rule(
        f"{_is_other(name)} || !has(self.precision) || self.precision in {list(known)}",
        f"precision is not one that executionProvider {name} computes; write one of {', '.join(known)}{fewer}",
        lambda r: r.execution_provider != name or r.precision is None or r.precision in known,
    )


def _option_rule(name: str, known: tuple[str, ...]) -> Rule:
    remedy = f"write one of {', '.join(known)}" if known else "remove providerOptions"
    return Rule(
        f"{_is_other(name)} || !has(self.providerOptions) || self.providerOptions.all(o, o in {list(known)})",
        f"providerOptions names an option that executionProvider {name} does not take; {remedy}",
        lambda r: r.execution_provider != name or all(option in known for option in r.provider_options or ()),
    )


OPTION_RULES = tuple(
    _option_rule(name, info.options) for name, info in EXECUTION_PROVIDERS.items() if info.options is not None
)


BATCH_RULE = Rule(
    "!has(self.batchPrecision) || !has(self.executionProvider) || self.executionProvider == 'cpu'",
    "batchPrecision is for the execution provider cpu; remove it, or executionProvider",
    lambda r: r.batch_precision is None or r.execution_provider == CPU,
)


DRAFT_RULES = (
    Rule(
        "!has(self.draftModel) || !has(self.executionProvider) || self.executionProvider == 'cpu'",
        "draftModel has no meaning with this executionProvider, which takes one token a step; remove it, or write "
        "executionProvider: cpu",
        lambda r: not r.draft_model or r.execution_provider == CPU,
    ),
    Rule(
        "!has(self.draftModel) || !has(self.draftTokens) || self.draftTokens > 0",
        "draftModel has no meaning with draftTokens: 0; write draftTokens: 5, or remove draftModel",
        lambda r: not r.draft_model or r.draft_tokens > 0,
    ),
)
"""Of what has a draft model besides."""


class RuntimeSpec(SpecModel):
    """How a model is run: `spec.runtime` of an InferenceWorkspace."""

    rules: ClassVar[tuple[Rule, ...]] = (*map(_precision_rule, EXECUTION_PROVIDERS), *OPTION_RULES, BATCH_RULE)

    precision: Annotated[
        ServedPrecision | None,
        Field(
            description=(
                "Precision of the exported model to load; the artifact must hold `onnx/<precision>/`. Left out, the "
                "first that it holds of int4, int8 and fp32; on a GPU, of fp16 and bf16, and for other tasks than "
                "textGeneration then of int4 and fp32."
            )
        ),
    ] = None
    batch_precision: Annotated[
        Literal["int8"] | None,
        Field(
            description=(
                "Precision of a second export of the model, which computes prompts and steps of four tokens or more; "
                "`precision` computes the others. With `int4` and `int8` both single answers and many at once are "
                "fast; the memory is that of both. The artifact must hold both (`export.precisions: [int4, int8]`), "
                "and the processor needs AVX-512 VNNI, AVX-VNNI or AMX. For task textGeneration on CPUs."
            )
        ),
    ] = None
    execution_provider: Annotated[
        ExecutionProvider,
        Field(
            description="The execution provider of ONNX Runtime that computes the model. All but `cpu` need a serving "
            "image of their own; all but `cpu` and `openvino` need a device (`resources.accelerators`)."
        ),
    ] = CPU
    provider_options: Annotated[
        dict[str, OptionValue] | None,
        Field(
            max_length=32,
            description="Options of the execution provider, by the names that ONNX Runtime has for them; passed on "
            "unchanged.",
            examples=[{"gpu_mem_limit": "8589934592"}],
        ),
    ] = None
    context_length: Annotated[
        int,
        Field(
            ge=16,
            le=1_048_576,
            description=(
                "Tokens of prompt and answer together that one request may take; above what the model was built for, "
                "the model's own length holds. Keys and values take memory as they are computed: maxBatchSize times "
                "this length may be more than fits, and then a request waits until there is memory for it."
            ),
        ),
    ] = 2048
    max_batch_size: Annotated[
        int,
        Field(ge=1, le=256, description="Requests that are answered at the same time (slots of the batch)."),
    ] = 8
    prefix_cache_memory: Annotated[
        CacheMemory,
        Field(
            description=(
                "Memory for the keys and values of earlier prompts and answers: a request that begins with the same "
                "tokens, as with the same system prompt or in a conversation, does not compute them again. `0` turns "
                "it off; `auto` takes a quarter of what is free once the model is loaded, at most 4Gi."
            )
        ),
    ] = "auto"
    draft_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description=(
                "The most tokens that are drafted for a request in a step, from what followed the same tokens in its "
                "prompt and answer (prompt lookup), else by the draft model if there is one, and checked by the model "
                "together. Drafts change how fast answers are, not what they are, and are made only while they make "
                "them faster. `0` turns them off."
            ),
        ),
    ] = 5
    max_queue_length: Annotated[
        int,
        Field(ge=0, le=100_000, description="Requests that may wait for a slot; more are answered with 429."),
    ] = 64

    @property
    def prefix_cache_bytes(self) -> int | None:
        """The memory of the prefix cache in bytes; None for a share of what is free."""
        return None if self.prefix_cache_memory == "auto" else int(amount(self.prefix_cache_memory))
