"""The optimizer's groups of parameters."""

from __future__ import annotations

from typing import Any

from tunesmith_api.spec import AdapterSettings


def loraplus_optimizer(trainer: Any, model: Any, adapter: AdapterSettings | None) -> Any:  # noqa: ANN401
    """Return LoRA+'s optimizer, where LoRA's matrices B learn at a higher rate than all else (arXiv 2402.12354).

    Args:
        trainer: transformers' Trainer.
        model: The model to train, as its `create_optimizer` gets it.
        adapter: The adapter's settings; None where the method trains none.

    Returns:
        The optimizer; None where all learn at the same rate.
    """
    if adapter is None or adapter.loraplus_lr_ratio == 1:
        return None
    model = trainer.model if model is None else model
    kind, options = trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    decayed = set(trainer.get_decay_parameter_names(model))
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = []
    for faster in (False, True):  # the first group's rate is the one that is shown
        for decays in (True, False):
            chosen = [p for name, p in trained if (".lora_B." in name) is faster and (name in decayed) is decays]
            rate = options["lr"] * (adapter.loraplus_lr_ratio if faster else 1.0)
            groups.append({"params": chosen, "lr": rate, "weight_decay": trainer.args.weight_decay if decays else 0.0})
    return kind([group for group in groups if group["params"]], **options)
