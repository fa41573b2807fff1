"""What `/metrics` shows of a batcher."""

from collections.abc import Sequence
from operator import attrgetter

from tunesmith_serving.engines.base import Statistic
from tunesmith_serving.engines.text_generation.batching.speculation.stats import SpeculationStats
from tunesmith_serving.engines.text_generation.batching.types import BatcherStats, CacheStats


def generation_statistics(stats: BatcherStats) -> Sequence[Statistic]:
    """Return the counters and the load of a batcher."""
    return (
        Statistic("tunesmith_prompt_tokens", "Prompt tokens computed.", stats.prompt_tokens, "counter"),
        Statistic("tunesmith_generated_tokens", "Tokens generated.", stats.generated_tokens, "counter"),
        Statistic("tunesmith_queue_length", "Requests waiting for a slot.", stats.queue_length),
        Statistic("tunesmith_slots_in_use", "Slots that hold a request.", stats.slots_in_use),
        Statistic("tunesmith_slots", "Slots in total.", stats.slots),
        *(_cache_statistics(stats.cache) if stats.cache else ()),
        *(_speculation_statistics(stats.speculation) if stats.speculation else ()),
    )


def _speculation_statistics(stats: SpeculationStats) -> Sequence[Statistic]:
    sources = (("lookup", stats.lookup), *((("model", stats.model),) if stats.model else ()))
    values = (
        ("tunesmith_draft_tokens", "Draft tokens that were checked.", attrgetter("drafted")),
        ("tunesmith_accepted_draft_tokens", "Draft tokens that were right.", attrgetter("accepted")),
    )
    return [
        Statistic(name, description, value(counts), "counter", (("source", source),))
        for name, description, value in values
        for source, counts in sources
    ]


def _cache_statistics(stats: CacheStats) -> Sequence[Statistic]:
    return (
        Statistic(
            "tunesmith_prefix_cache_query_tokens", "Prompt tokens that were looked up.", stats.query_tokens, "counter"
        ),
        Statistic(
            "tunesmith_prefix_cache_hit_tokens", "Prompt tokens that were found there.", stats.hit_tokens, "counter"
        ),
        Statistic("tunesmith_prefix_cache_blocks", "Blocks in the prefix cache.", stats.prefix_blocks),
        Statistic("tunesmith_prefix_cache_bytes", "Memory of the blocks in the prefix cache.", stats.prefix_bytes),
        Statistic("tunesmith_kv_cache_bytes", "Memory of the keys and values of running requests.", stats.row_bytes),
    )
