"""The artifact's chat template, run in a sandbox with the functions that transformers gives to templates."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith_api.chat.rendering import UnsupportedToolsError, template_inputs
from tunesmith_serving.runtime.errors import ArtifactError, ServingError

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateError(ServingError):
    """The chat template refused the messages."""


class _Generation(Extension):
    """`{% generation %}` marks the assistant's words for training; when serving, only its content is rendered."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        scope = nodes.Scope(lineno=line)
        scope.body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return scope


class ChatTemplate:
    """A compiled chat template.

    Attributes:
        source: Its text.
    """

    def __init__(
        self, source: str, special_tokens: Mapping[str, str], now: Callable[[], datetime] = datetime.now
    ) -> None:
        """Compile `source`; `now` returns the time for templates that write the date.

        Raises:
            ArtifactError: It is not a Jinja template.
        """
        self.source = source
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda format: now().strftime(format)
        try:
            self._template = environment.from_string(source)
        except JinjaError as error:
            line = getattr(error, "lineno", None)
            where = f"chat template, line {line}" if line else "chat template"
            raise ArtifactError(f"{where}: {error}; correct the template and publish the model again") from None
        self._special_tokens = dict(special_tokens)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the prompt for a conversation.

        Args:
            messages: The turns: `role` and `content` each, and the calls and results of tools.
            add_generation_prompt: Whether the prompt ends with the beginning of the assistant's next turn.
            tools: The functions that the model may call, as `tunesmith_api.chat.definitions.read_tools` makes them.

        Raises:
            TemplateError: The template refuses these messages.
        """
        try:
            turns, given = template_inputs(self.source, messages, tools)
            return self._template.render(
                messages=turns,
                tools=given,
                documents=None,  # as transformers does: some templates ask whether it is none
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except TemplateError:
            raise
        except UnsupportedToolsError as error:
            raise TemplateError(str(error)) from None
        except Exception as error:  # a template can raise whatever its expressions raise
            raise TemplateError(f"the model's chat template cannot render these messages: {error}") from None


def load_chat_template(
    template_file: str | None, tokenizer_config: Mapping[str, Any], now: Callable[[], datetime] = datetime.now
) -> ChatTemplate | None:
    """Return the template of chat_template.jinja, else of tokenizer_config.json, else None.

    Raises:
        ArtifactError: There is one, but it is not valid.
    """
    source: Any = template_file if template_file is not None else tokenizer_config.get("chat_template")
    if isinstance(source, list):
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if source is None:
        return None
    if not isinstance(source, str):
        raise ArtifactError("chat_template in tokenizer_config.json is not text; publish the model again")
    tokens = {key: _token_text(tokenizer_config[key]) for key in SPECIAL_TOKENS if tokenizer_config.get(key)}
    return ChatTemplate(source, tokens, now)


def _token_text(value: object) -> str:
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)


def _raise_exception(message: str) -> None:
    raise TemplateError(f"the model's chat template says: {message}")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
    default: Callable[[Any], Any] | None = None,
) -> str:
    # Jinja's own tojson escapes HTML characters, which would put escapes in the prompt.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys, default=default
    )
