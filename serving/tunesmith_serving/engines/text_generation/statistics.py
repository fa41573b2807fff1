"""What `/metrics` shows of a batcher."""

from collections.abc import Sequence

from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.text_generation.batching.types import BatcherStats


def generation_statistics(stats: BatcherStats) -> Sequence[Statistic]:
    """Return the counters and the load of a batcher."""
    return (
        Statistic("tunesmith_prompt_tokens", "Prompt tokens computed.", stats.prompt_tokens, "counter"),
        Statistic("tunesmith_generated_tokens", "Tokens generated.", stats.generated_tokens, "counter"),
        Statistic("tunesmith_queue_length", "Requests waiting for a slot.", stats.queue_length),
        Statistic("tunesmith_slots_in_use", "Slots that hold a request.", stats.slots_in_use),
        Statistic("tunesmith_slots", "Slots in total.", stats.slots),
    )
