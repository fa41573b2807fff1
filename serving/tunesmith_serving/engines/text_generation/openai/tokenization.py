"""`/tokenize` and `/detokenize`, as vLLM has them: the token ids of a prompt, and the text of token ids."""

from dataclasses import replace
from typing import Any

from tunesmith_serving.engines.text_generation.openai.encoding import ApiTokenizer, encode, prompt_errors
from tunesmith_serving.engines.text_generation.openai.prompt import Prompt, Template, render_prompt
from tunesmith_serving.engines.text_generation.openai.schema import DetokenizeRequest, TokenizeRequest
from tunesmith_serving.http.errors import ApiError


async def tokenize(
    body: TokenizeRequest, tokenizer: ApiTokenizer, template: Template | None, context_length: int
) -> dict[str, Any]:
    """Return the token ids that a prompt or a conversation has for the model.

    Raises:
        ApiError: Both or neither are given, or they cannot be encoded.
    """
    if (body.prompt is None) == (body.messages is None):
        raise ApiError(400, "prompt: give either prompt or messages", param="prompt", code="invalid_value")
    with prompt_errors("prompt" if body.messages is None else "messages"):
        if body.messages is None:
            prompt = Prompt(body.prompt, add_special_tokens=body.add_special_tokens is not False)
        else:
            rendered = render_prompt(body.messages, template, body.add_generation_prompt is not False, body.tools)
            prompt = replace(rendered, add_special_tokens=bool(body.add_special_tokens))
        ids = await encode(prompt, tokenizer)
    return {
        "count": len(ids),
        "max_model_len": context_length,
        "tokens": list(ids),
        "token_strs": [tokenizer.token(token) for token in ids] if body.return_token_strs else None,
    }


def detokenize(body: DetokenizeRequest, tokenizer: ApiTokenizer) -> dict[str, Any]:
    """Return the text of token ids, special tokens included.

    Raises:
        ApiError: A token id is not in the vocabulary.
    """
    for index, token in enumerate(body.tokens):
        if not tokenizer.token(token):
            message = f"tokens[{index}]: {token} is not in the vocabulary"
            raise ApiError(400, message, param=f"tokens[{index}]", code="invalid_value")
    return {"prompt": tokenizer.decode(body.tokens, skip_special_tokens=False)}
