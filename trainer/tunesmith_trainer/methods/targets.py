"""The layers of a model that get an adapter."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from tunesmith_api.failures import Reason, StageError


def targeted(layers: Iterable[str], targets: Sequence[str] | None) -> list[str]:
    """Return the layers that a spec names.

    Args:
        layers: Full names of the linear layers.
        targets: `spec.adapter.targetModules`; all layers if it is None.
    """
    return [name for name in layers if targets is None or any(name == t or name.endswith(f".{t}") for t in targets)]


def check_targets(targets: Sequence[str] | None, layers: Iterable[str]) -> None:
    """Raise if a target is not the name, or the end of the name, of any layer.

    Args:
        targets: `spec.adapter.targetModules`.
        layers: Full names of the linear layers.
    """
    names = list(layers)
    wrong = [target for target in targets or () if not targeted(names, [target])]
    if not wrong:
        return
    known = sorted({name.rsplit(".", 1)[-1] for name in names})
    near = difflib.get_close_matches(wrong[0].rsplit(".", 1)[-1], known, n=1, cutoff=0.5)
    raise StageError(
        Reason.INVALID_SPEC,
        f"spec.adapter.targetModules: the model has no linear layer {', '.join(wrong)}"
        + (f"; the nearest is {near[0]}" if near else ""),
        f"Write some of {', '.join(known)}, or leave targetModules out for all of them",
    )


def peft_targets(targets: Sequence[str] | None, layers: Iterable[str]) -> list[str]:
    """Return the names by which peft finds the layers: those of the spec, or the last parts of all layers' names."""
    return sorted(targets or {name.rsplit(".", 1)[-1] for name in layers})
