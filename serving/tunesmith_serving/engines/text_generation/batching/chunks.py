"""Where prompts are cut, so that a token is computed in the same way whatever the prefix cache has.

In fp32 a token's keys, values and logits do not depend on the other tokens and rows of a run, to the last bit, as long
as attention takes several tokens of the row at a time. It may take a row's tokens in blocks, of 32 to 256 depending on
the model and the processor, and a single token that is left over is computed by another kernel, whose sums are rounded
differently (logits differ by up to 5e-5). A run of 16 n + 1 tokens could have such a token.

So chunks begin and end at multiples of 16, and a token that is left over at the end of a prompt is computed once more
with the one before it.

With heads of more than 128 numbers sums are also rounded differently while a row has at most 64 tokens. Nothing is done
about that: such a prompt, and what others have of it in the prefix cache, may differ by 1e-5.
"""

GRAIN = 16


def has_single_token(count: int) -> bool:
    """Return whether attention may take a single token at the end of a run of `count` tokens."""
    return count % GRAIN == 1


def next_chunk(filled: int, length: int, chunk: int) -> tuple[int, int]:
    """Return the next tokens of a prompt to compute, from the first up to before the last.

    Args:
        filled: Tokens whose keys and values are there: a multiple of 16, or all but one.
        length: Tokens of the prompt.
        chunk: The most tokens of a run, a multiple of 16.
    """
    end = min(filled + chunk - filled % chunk, length)
    if not has_single_token(end - filled) or length == 1:
        return filled, end
    return (filled, end - 1) if end - filled > 1 else (filled - 1, end)
