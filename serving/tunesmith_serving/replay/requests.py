"""The lines of the replay's input."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from tunesmith_serving.engines.text_generation.openai.prompt import PromptEncoder, PromptError, Template, make_prompt
from tunesmith_serving.engines.text_generation.openai.schema import ChatRequest, CompletionRequest


class RequestLine(BaseModel):
    """One line.

    Attributes:
        request: The body of an OpenAI request; `model` may be left out.
        generate: Whether an answer is wanted, or only the token ids of the prompt.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    request: dict[str, Any]
    generate: bool = False

    def body(self) -> ChatRequest | CompletionRequest:
        """Return the checked request.

        Raises:
            PromptError: It is not a request that the server accepts.
        """
        kind: type[ChatRequest | CompletionRequest] = ChatRequest if "messages" in self.request else CompletionRequest
        try:
            return kind.model_validate({"model": "model", **self.request})
        except ValidationError as error:
            first = error.errors()[0]
            raise PromptError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def prompt_ids(
    body: ChatRequest | CompletionRequest, tokenizer: PromptEncoder, template: Template | None
) -> tuple[int, ...]:
    """Return the token ids that the HTTP routes make of a request.

    Raises:
        PromptError: They would refuse it.
    """
    return make_prompt(body, template).encode(tokenizer)
