"""The layers of a model that get an adapter."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from tunesmith_api.failures import Reason, StageError
from tunesmith_trainer.models.linears import is_within


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


def peft_targets(
    targets: Sequence[str] | None, layers: Iterable[str], modules: Iterable[str] = (), apart: Sequence[str] = ()
) -> list[str]:
    """Return the names by which peft finds the layers that a spec names, and no others.

    Args:
        targets: `spec.adapter.targetModules`.
        layers: Full names of the linear layers.
        modules: Full names of all modules of the model. peft also takes those whose names merely end like a target.
        apart: Names of modules that peft leaves out of itself, with all that they hold.

    Returns:
        The spec's names, or else the last parts of the layers' names; more parts where one means another module too.
    """
    names = list(layers)
    chosen = set(targeted(names, targets))
    others = (name for name in {*names, *modules} - chosen if not is_within(name, apart))
    taken = {end for name in others for end in _ends(name)}
    found = set()
    for name in chosen:
        given = [target for target in targets or () if name == target or name.endswith(f".{target}")]
        found.add(next(end for end in (*given, *_ends(name)) if end not in taken))
    return sorted(found)


def _ends(name: str) -> list[str]:
    """Return the ends of a dotted name, from its last part to the whole."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
