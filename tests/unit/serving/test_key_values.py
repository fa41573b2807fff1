"""Memory of keys and values: blocks of prefixes, rows, and how much both may take."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from tunesmith_serving.engines.text_generation.batching.kv import rows as rows_module
from tunesmith_serving.engines.text_generation.batching.kv.budget import KvMemory, plan_memory
from tunesmith_serving.engines.text_generation.batching.kv.mapped import MappedArray
from tunesmith_serving.engines.text_generation.batching.kv.prefix import BLOCK_TOKENS, BlockKeys, PrefixCache
from tunesmith_serving.engines.text_generation.batching.kv.rows import KeyValueRows, KvShape
from tunesmith_serving.runtime.errors import MemoryShortageError
from tunesmith_serving.runtime.memory import free_memory

SHAPE = KvShape(parts=4, heads=2, head_size=16, dtype=np.float32)
GIB = 1 << 30


def make_cache(blocks: int) -> tuple[KeyValueRows, PrefixCache]:
    rows = KeyValueRows(SHAPE, count=3, context=8 * BLOCK_TOKENS)
    return rows, PrefixCache(rows, blocks * BLOCK_TOKENS * SHAPE.token_bytes + 1)


def keys_of(*tokens_of_blocks: int, scope: str = "") -> list[bytes]:
    """Return the keys of blocks that each consist of one token."""
    return BlockKeys(scope).of(np.repeat(tokens_of_blocks, BLOCK_TOKENS), len(tokens_of_blocks))


def test_a_key_depends_on_all_tokens_before_and_on_the_scope() -> None:
    assert keys_of(1, 2)[:1] == keys_of(1, 3)[:1]
    assert keys_of(1, 2)[1] != keys_of(3, 2)[1]
    assert keys_of(1) != keys_of(1, scope="adapter")
    growing = BlockKeys("")
    assert growing.of(np.repeat([1], BLOCK_TOKENS), 1) == keys_of(1, 2)[:1]
    assert growing.of(np.repeat([1, 2], BLOCK_TOKENS), 2) == keys_of(1, 2)


def test_blocks_come_back_as_they_were() -> None:
    rows, cache = make_cache(4)
    values = np.random.default_rng(0).normal(size=rows.tokens(0, 0, 48).shape).astype(np.float32)
    rows.tokens(0, 0, 48)[:] = values
    cache.store(keys_of(1, 2, 3), 0)
    assert cache.match(keys_of(1, 2, 4)) == 2
    cache.load(keys_of(1, 2), 1)
    assert np.array_equal(rows.tokens(1, 0, 32), values[:, :, :32])
    assert not rows.tokens(1, 32, 48).any()


def test_what_was_used_longest_ago_makes_room_the_end_of_a_prefix_first() -> None:
    rows, cache = make_cache(4)
    cache.store(keys_of(1, 2), 0)
    cache.store(keys_of(5, 6), 0)
    cache.load(keys_of(1, 2), 1)
    cache.store(keys_of(7), 0)
    assert (cache.match(keys_of(1, 2)), cache.match(keys_of(5, 6)), cache.match(keys_of(7))) == (2, 1, 1)
    assert (len(cache), cache.used_bytes) == (4, 4 * cache.block_bytes)
    # A prefix longer than the cache keeps its beginning.
    rows.tokens(0, 0, 96)[:] = 3
    cache.store(keys_of(9, 9, 9, 9, 9, 9), 0)
    assert (cache.match(keys_of(9, 9, 9, 9, 9, 9)), cache.match(keys_of(1, 2))) == (4, 0)
    cache.load(keys_of(9, 9, 9, 9), 2)
    assert (rows.tokens(2, 0, 64) == 3).all()


def test_a_cache_without_memory_keeps_nothing() -> None:
    _, cache = make_cache(0)
    cache.store(keys_of(1), 0)
    assert (cache.match(keys_of(1)), len(cache), cache.used_bytes) == (0, 0, 0)


def test_moving_a_row_frees_it() -> None:
    rows, _ = make_cache(0)
    rows.take(2)
    rows.tokens(2, 0, 20)[:] = 7
    rows.move(2, 0, 20)
    assert (rows.tokens(0, 0, 20) == 7).all()
    assert not rows.tokens(0, 20, 40).any()


def resident(array: np.ndarray) -> int:
    """Return how many KiB of an array are in memory."""
    address = f"{array.ctypes.data:x}"
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.startswith(f"{address}-"):
            return next(int(part.split()[1]) for part in lines if part.startswith("Rss:"))
    raise AssertionError(f"no mapping begins at {address}")


def test_memory_is_taken_where_it_is_written_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "KEPT_BYTES", 0)
    shape = KvShape(parts=2, heads=2, head_size=64, dtype=np.float32)
    # 64 GiB of addresses, of which nothing is used.
    rows = KeyValueRows(shape, count=256, context=1 << 18)
    assert resident(rows.view(0, 0, 256)) == 0
    for row in (0, 1):
        rows.take(row)
        rows.tokens(row, 0, 512)[:] = 1
    full = resident(rows.view(0, 0, 256))
    assert 2 * 512 * shape.token_bytes <= full << 10 < 2.2 * 512 * shape.token_bytes
    rows.free(1, 512)
    assert resident(rows.view(0, 0, 256)) <= full // 2 + 64
    assert (rows.tokens(0, 0, 512) == 1).all()


def test_little_memory_of_free_rows_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = KvShape(parts=2, heads=2, head_size=64, dtype=np.float32)
    monkeypatch.setattr(rows_module, "KEPT_BYTES", 600 * shape.token_bytes)
    rows = KeyValueRows(shape, count=4, context=4096)
    for row in (0, 1):
        rows.take(row)
        rows.tokens(row, 0, 512)[:] = 1
    both = resident(rows.view(0, 0, 4))
    rows.free(0, 512)
    assert resident(rows.view(0, 0, 4)) == both
    rows.free(1, 512)
    assert resident(rows.view(0, 0, 4)) <= both // 2 + 64
    # What a kept row had written before counts as well, though it holds less now.
    rows.take(0)
    rows.free(0, 1)
    rows.take(1)
    rows.tokens(1, 0, 512)[:] = 1
    rows.free(1, 512)
    assert resident(rows.view(0, 0, 4)) <= both // 2 + 64


def test_giving_back_a_part_leaves_its_neighbours() -> None:
    memory = MappedArray((3, 1000), np.float32, "numbers")
    memory.array[:] = 5
    memory.give_back(memory.array[1])
    assert (memory.array[[0, 2]] == 5).all()
    memory = MappedArray((3, mmap.PAGESIZE), np.uint8, "numbers")
    memory.array[:] = 5
    memory.give_back(memory.array[1])
    assert (memory.array[[0, 2]] == 5).all() and not memory.array[1].any()


@pytest.mark.parametrize(
    ("free", "slots", "context", "prefix", "expected"),
    [
        (None, 8, 2048, None, KvMemory(16384, 256 << 20)),
        (None, 8, 2048, 5, KvMemory(16384, 5)),
        (32 * GIB, 8, 2048, None, KvMemory(16384, 4 * GIB)),
        (1 * GIB, 8, 2048, None, KvMemory(16384, GIB // 4)),
        # Half of what is free, when that is less than slots times context.
        (1 * GIB, 256, 65536, None, KvMemory(GIB // 2 // 512, GIB // 4)),
        (1 * GIB, 256, 65536, 0, KvMemory(GIB // 3 * 2 // 512, 0)),
        (1 * GIB, 256, 65536, GIB // 2, KvMemory(GIB // 3 // 512, GIB // 2)),
        (64 << 10, 4, 256, None, KvMemory(64, 16 << 10)),
    ],
)
def test_free_memory_is_divided(
    free: int | None, slots: int, context: int, prefix: int | None, expected: KvMemory
) -> None:
    assert plan_memory(free, 512, slots, context, prefix) == expected


@pytest.mark.parametrize(("free", "prefix"), [(8 << 10, None), (GIB, GIB), (GIB, 2 * GIB), (0, 0)])
def test_memory_for_no_request_is_refused(free: int, prefix: int | None) -> None:
    with pytest.raises(MemoryShortageError, match=r"MiB are free .* lower prefixCacheMemory$"):
        plan_memory(free, 512, 8, 2048, prefix)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_the_smallest_limit_holds(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    write(tmp_path / "proc", meminfo="MemTotal: 9 kB\nMemAvailable:   2048 kB\n")
    assert free_memory(tmp_path) == 2048 << 10
    write(tmp_path / "proc/self", cgroup="0::/pod/container\n")
    group = tmp_path / "sys/fs/cgroup/pod"
    write(group, memory__max="1000000\n", memory__current="400000\n", memory__stat="anon 1\ninactive_file 100000\n")
    write(group / "container", memory__max="max\n", memory__current="300000\n")
    assert free_memory(tmp_path) == 700_000
    write(group / "container", memory__max="500000\n")
    assert free_memory(tmp_path) == 200_000
    # In a container the path can be the host's, and the group itself is at the top.
    write(tmp_path / "proc/self", cgroup="0::/kubepods/pod1\n")
    write(tmp_path / "sys/fs/cgroup", memory__max="600000\n", memory__current="700000\n", memory__stat="")
    assert free_memory(tmp_path) == 0


def test_limits_of_the_first_version_of_cgroups(tmp_path: Path) -> None:
    write(tmp_path / "proc/self", cgroup="3:cpu,cpuacct:/a\n2:memory:/b\n")
    files = {"memory__limit_in_bytes": "5000", "memory__usage_in_bytes": "3000"}
    write(tmp_path / "sys/fs/cgroup/memory/b", **files, memory__stat="inactive_file 7\ntotal_inactive_file 500\n")
    assert free_memory(tmp_path) == 2500


def test_a_draft_model_holds_the_same_tokens_in_the_same_memory() -> None:
    alone = plan_memory(8 * GIB, 3000, 1000, 1 << 20, None)
    both = plan_memory(8 * GIB, 3000, 1000, 1 << 20, None, 1000)
    assert both.row_tokens == alone.row_tokens * 3 // 4
    assert both.prefix_bytes + both.draft_prefix_bytes == alone.prefix_bytes
    assert both.prefix_bytes // 3000 == pytest.approx(both.draft_prefix_bytes // 1000, abs=1)
    assert plan_memory(None, 3000, 1, 16, 0, 1000) == KvMemory(16, 0, 0)
