"""What `/metrics` shows of adapters."""

from collections.abc import Sequence

from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.text_generation.adapters.store import AdapterStore


def adapter_statistics(store: AdapterStore) -> Sequence[Statistic]:
    """Return how many adapters are served, how many cannot be, and the requests by model."""
    failures = sum(state.state == "Failed" for state in store.states().values())
    return (
        Statistic("tunesmith_adapters_loaded", "Adapters that are served beside the model.", len(store.loaded())),
        Statistic("tunesmith_adapter_failures", "Adapters of the list that cannot be loaded.", failures),
        *(
            Statistic("tunesmith_model_requests", "Requests by model.", count, "counter", (("model", name),))
            for name, count in sorted(store.requests().items())
        ),
    )
