"""What the documents that the project comes from claim of each technique, against what was measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tunesmith_api.methods import METHODS, adapter_methods, whole_methods

Measured = dict[str, dict[str, Any]]
Finding = tuple[str, bool]

_SMALL = 0.1  # share of all parameters that is "a small part"
_NEAR = 1.25  # times what LoRA takes, that is still LoRA's cost


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes:
        technique: Whose.
        text: What is claimed.
        needs: Names of the measured techniques that it is about.
        find: Returns what was measured and whether the claim holds.
    """

    technique: str
    text: str
    needs: tuple[str, ...]
    find: Callable[[Measured], Finding]


def _mb(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def _memory(one: str, other: str) -> Callable[[Measured], Finding]:
    """Return a finding: a process of one technique takes less than one of another."""

    def find(m: Measured) -> Finding:
        first, second = m[one]["memory"]["allocated"], m[other]["memory"]["allocated"]
        text = f"{_mb(first)} for a process, {other.removesuffix(' ddp')} takes {_mb(second)} ({first / second:.0%})"
        return text, first < second

    return find


def _trained(m: Measured) -> Finding:
    lora, full = m["lora ddp"]["learned"], m["full ddp"]["learned"]
    share = lora["trained"] / full["trained"]
    return f"{lora['trained']:,} instead of {full['trained']:,} ({share:.1%})", share < _SMALL


def _cost(m: Measured) -> Finding:
    lora, full = m["lora ddp"]["tokensPerSecond"], m["full ddp"]["tokensPerSecond"]
    return f"{lora / full:.2f} × the tokens/s of full training, on the CPU", lora > full


def _kept(m: Measured) -> Finding:
    lora, full = m["lora ddp"]["learned"]["kept"], m["full ddp"]["learned"]["kept"]
    return f"{_size(lora)} are kept instead of {_size(full)} ({lora / full:.1%})", lora < _SMALL * full


def _size(value: float) -> str:
    return f"{value / 1e6:,.2f} MB"


def _peft(m: Measured) -> Finding:
    full = m[f"{whole_methods()[0]} ddp"]["learned"]["trained"]
    shares = {n: m[f"{n} ddp"]["learned"]["trained"] / full for n in adapter_methods() if "learned" in m[f"{n} ddp"]}
    least, most = min(shares, key=lambda n: shares[n]), max(shares, key=lambda n: shares[n])
    text = f"from {shares[least]:.2%} of the parameters ({least}) to {shares[most]:.1%} ({most})"
    return text, max(shares.values()) < _SMALL


def _peft_cost(m: Measured) -> Finding:
    full = m[f"{whole_methods()[0]} ddp"]
    memory = {n: m[f"{n} ddp"]["memory"]["allocated"] / full["memory"]["allocated"] for n in adapter_methods()}
    speed = {n: m[f"{n} ddp"]["tokensPerSecond"] / full["tokensPerSecond"] for n in adapter_methods()}
    slow = sorted(n for n in speed if speed[n] < 1)
    text = f"memory of a process {min(memory.values()):.0%} to {max(memory.values()):.0%} of full training's; "
    text += f"tokens/s {min(speed.values()):.2f} to {max(speed.values()):.2f} × its"
    text += f"; slower than it on the CPU: {', '.join(slow)}" if slow else ""
    return text, max(memory.values()) < 1 and not slow


def _partitions(stage: int) -> Callable[[Measured], Finding]:
    """Return a finding: what a process keeps between steps falls from one stage to the next."""
    before = "full ddp" if stage == 1 else f"full zero{stage - 1}"

    def find(m: Measured) -> Finding:
        first, second = m[f"full zero{stage}"]["memory"]["allocated"], m[before]["memory"]["allocated"]
        text = f"peak of one of 2 processes {_mb(first)}, with {before.split()[1]} {_mb(second)}"
        return text, first < second

    return find


def _aggregate(m: Measured) -> Finding:
    ddp, third = (m[f"full {name}"]["memory"]["atRest"] for name in ("ddp", "zero3"))
    text = f"between two steps one of 2 processes keeps {_mb(third)} of weights and states, {_mb(ddp)} with ddp"
    return f"{text} ({third / ddp:.0%})", third < 0.75 * ddp


def _deepspeed_speed(m: Measured) -> Finding:
    best = max((1, 2, 3), key=lambda stage: m[f"full zero{stage}"]["tokensPerSecond"])
    ratio = m[f"full zero{best}"]["tokensPerSecond"] / m["full ddp"]["tokensPerSecond"]
    return f"zero{best} has {ratio:.2f} × the tokens/s of ddp: a small model, 2 processes of one CPU", ratio >= 1


def _offload(m: Measured) -> Finding:
    with_it, without = m["full zero3+all"]["learned"]["after"], m["full zero3"]["learned"]["after"]
    gap = abs(with_it["evalLoss"] - without["evalLoss"])
    return f"evaluation losses differ by {gap:.1e}; where the states are can be measured on a GPU only", gap < 1e-3


def _dora(m: Measured) -> Finding:
    dora, lora, full = (m[f"{name} ddp"]["learned"]["after"]["evalLoss"] for name in ("dora", "lora", "full"))
    text = f"evaluation loss {dora:.3f}; lora {lora:.3f}, full {full:.3f}"
    return text, dora - full <= lora - full


def _dora_cost(m: Measured) -> Finding:
    one, other = m["dora ddp"], m["lora ddp"]
    trained = one["learned"]["trained"] / other["learned"]["trained"]
    memory = one["memory"]["allocated"] / other["memory"]["allocated"]
    speed = one["tokensPerSecond"] / other["tokensPerSecond"]
    text = f"{trained:.2f} × LoRA's trained parameters, {memory:.2f} × its memory, {speed:.2f} × its tokens/s"
    return text, max(trained, memory, 1 / speed) <= _NEAR


def _qlora_quality(m: Measured) -> Finding:
    one, other = (m[f"{name} ddp"]["learned"]["after"]["evalLoss"] for name in ("qlora", "lora"))
    return f"evaluation loss {one:.3f}, lora {other:.3f}", one <= other * 1.1


_LORA, _FULL = ("lora ddp", "full ddp"), ("full ddp", "full zero1", "full zero2", "full zero3")
CLAIMS = (
    Claim("LoRA", "trains a small part of the parameters", _LORA, _trained),
    Claim("LoRA", "cuts memory", _LORA, _memory("lora ddp", "full ddp")),
    Claim("LoRA", "cuts the cost of a step", _LORA, _cost),
    Claim("LoRA", "keeps little for each task", _LORA, _kept),
    Claim("QLoRA", "cuts memory further by a quantized base", ("qlora ddp", *_LORA), _memory("qlora ddp", "lora ddp")),
    Claim("QLoRA", "learns about as well as LoRA", ("qlora ddp", "lora ddp"), _qlora_quality),
    Claim("PEFT", "trains a small part of the parameters", _LORA, _peft),
    Claim("PEFT", "cuts the cost", _LORA, _peft_cost),
    Claim("DeepSpeed", "cuts memory over several devices", _FULL, _memory("full zero2", "full ddp")),
    Claim("DeepSpeed", "speeds up training", _FULL, _deepspeed_speed),
    Claim("ZeRO 1", "partitions the optimizer's states", _FULL, _partitions(1)),
    Claim("ZeRO 2", "partitions the gradients too", _FULL, _partitions(2)),
    Claim("ZeRO 3", "partitions the parameters too", _FULL, _partitions(3)),
    Claim("ZeRO 3", "uses the memory of all devices together", _FULL, _aggregate),
    Claim("Offload", "changes where states are, not what is learned", ("full zero3", "full zero3+all"), _offload),
    Claim("DoRA", "comes at least as near to full training as LoRA", ("dora ddp", *_LORA), _dora),
    Claim("DoRA", "costs about as much as LoRA", ("dora ddp", "lora ddp"), _dora_cost),
)


def findings(measured: Measured) -> Iterator[tuple[Claim, str, bool]]:
    """Yield each claim whose techniques were measured, with what was found and whether it holds."""
    whole = {name for name, found in measured.items() if {"memory", "learned", "tokensPerSecond"} <= found.keys()}
    for claim in CLAIMS:
        needed = {*claim.needs, *(f"{n} ddp" for n in METHODS if claim.technique == "PEFT")}
        if needed <= whole:
            yield claim, *claim.find(measured)
