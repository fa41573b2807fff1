"""`/tokenize` and `/detokenize`, as vLLM has them: the token ids of a prompt, and the text of token ids."""

from typing import Any

from tunesmith_serving.engines.text_generation.openai.prompts import PromptEncoder, TextTokenizer
from tunesmith_serving.engines.text_generation.openai.schema import DetokenizeRequest, TokenizeRequest
from tunesmith_serving.http.errors import ApiError


async def tokenize(
    body: TokenizeRequest, prompts: PromptEncoder, tokenizer: TextTokenizer, context_length: int
) -> dict[str, Any]:
    """Return the token ids that a prompt or a conversation has for the model.

    Raises:
        ApiError: Both or neither are given, or they cannot be encoded.
    """
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "prompt: give either prompt or messages", param="prompt", code="invalid_value")
    if body.messages is not None:
        generation_prompt = body.add_generation_prompt is not False
        ids = await prompts.conversation(body.messages, generation_prompt, bool(body.add_special_tokens))
    else:
        ids = await prompts.text(body.prompt or "", body.add_special_tokens is not False, "prompt")
    return {
        "count": len(ids),
        "max_model_len": context_length,
        "tokens": list(ids),
        "token_strs": [tokenizer.token(token) for token in ids] if body.return_token_strs else None,
    }


def detokenize(body: DetokenizeRequest, tokenizer: TextTokenizer) -> dict[str, Any]:
    """Return the text of token ids, special tokens included.

    Raises:
        ApiError: A token id is not in the vocabulary.
    """
    for index, token in enumerate(body.tokens):
        if not tokenizer.token(token):
            message = f"tokens[{index}]: {token} is not in the vocabulary"
            raise ApiError(400, message, param=f"tokens[{index}]", code="invalid_value")
    return {"prompt": tokenizer.decode(body.tokens, skip_special_tokens=False)}
