"""Every token is computed, and attention never takes one alone, wherever the prefix cache ends."""

import pytest

from tunesmith_serving.engines.text_generation.batching.chunks import GRAIN, next_chunk


def chunks_of(filled: int, length: int, chunk: int) -> list[tuple[int, int]]:
    chunks = []
    while filled < length:
        chunks.append(next_chunk(filled, length, chunk))
        filled = chunks[-1][1]
    return chunks


@pytest.mark.parametrize("chunk", [16, 32, 48, 128])
def test_chunks_cover_a_prompt_without_single_tokens(chunk: int) -> None:
    for length in range(2, 300):
        for cached in range(0, length, GRAIN):
            chunks = chunks_of(cached, length, chunk)
            starts, ends = [start for start, _ in chunks], [end for _, end in chunks]
            assert [cached, *ends[:-1]] == [*starts[:-1], ends[-2] if len(ends) > 1 else cached]
            assert starts[-1] in (ends[-2] - 1, ends[-2]) if len(ends) > 1 else starts[-1] in (cached - 1, cached)
            assert ends[-1] == length
            assert all(end - start <= chunk and (end - start) % GRAIN != 1 for start, end in chunks), (cached, chunks)


def test_what_is_cut_where() -> None:
    assert chunks_of(0, 1, 32) == [(0, 1)]
    assert chunks_of(0, 70, 32) == [(0, 32), (32, 64), (64, 70)]
    assert chunks_of(16, 70, 32) == [(16, 32), (32, 64), (64, 70)]
    assert chunks_of(0, 17, 32) == [(0, 16), (15, 17)]
    assert chunks_of(0, 33, 32) == [(0, 32), (31, 33)]
    assert chunks_of(32, 33, 32) == [(31, 33)]
