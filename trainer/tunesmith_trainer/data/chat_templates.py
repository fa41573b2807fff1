"""Default chat templates for models without one: ChatML, or a plain one for tokenizers without ChatML's tokens."""

from __future__ import annotations

from typing import Any

from tunesmith_api.failures import Reason, StageError

START, END = "<|im_start|>", "<|im_end|>"

_ROLES = """\
{%- if tools -%}
{%- set described = namespace(text='You can call the functions between <tools> and </tools>. To call one, write its '
    + 'name and its arguments as JSON between <tool_call> and </tool_call>.\\n<tools>') -%}
{%- for tool in tools -%}{%- set described.text = described.text + '\\n' + (tool | tojson) -%}{%- endfor -%}
{%- set described.text = described.text + '\\n</tools>' -%}
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set described.text = messages[0]['content'] + '\\n\\n' + described.text -%}
{%- set messages = [{'role': 'system', 'content': described.text}] + messages[1:] -%}
{%- else -%}
{%- set messages = [{'role': 'system', 'content': described.text}] + messages -%}
{%- endif -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
{{- raise_exception("the roles are system, user, assistant and tool, not '" + message['role'] + "'") -}}
{%- endif -%}
"""

_ANSWER = """\
{{- message['content'] -}}
{%- for call in message['tool_calls'] or [] -%}
{{- '\\n' if message['content'] or not loop.first else '' -}}
{{- '<tool_call>\\n' + (call['function'] | tojson) + '\\n</tool_call>' -}}
{%- endfor -%}
"""

CHATML = (
    _ROLES
    + """\
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}
"""
    + _ANSWER
    + """\
{{- '<|im_end|>' -}}{%- endgeneration -%}
{{- '\\n' -}}
{%- else -%}
{{- message['content'] + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
)

PLAIN = (
    _ROLES
    + """\
{%- if message['role'] == 'assistant' -%}
{{- '### Assistant:\\n' -}}
{%- generation -%}
"""
    + _ANSWER
    + """\
{{- eos_token -}}{%- endgeneration -%}
{{- '\\n\\n' -}}
{%- else -%}
{{- '### ' + message['role'] | capitalize + ':\\n' + message['content'] + '\\n\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '### Assistant:\\n' -}}{%- endif -%}
"""
)


def default_template(tokenizer: Any) -> str:  # noqa: ANN401 - transformers has no types
    """Return the chat template for a tokenizer that has none.

    ChatML if its end token is the tokenizer's EOS token. Otherwise a plain template that uses only the tokenizer's own
    special tokens, because new tokens would need new rows in the embedding.

    Raises:
        StageError: The tokenizer has no EOS token.
    """
    if tokenizer.eos_token is None:
        raise StageError(
            Reason.INVALID_MODEL,
            "the tokenizer has neither a chat template nor an end-of-text token",
            "Add eos_token to the model's tokenizer_config.json",
        )
    vocabulary = tokenizer.get_vocab()
    if tokenizer.eos_token == END and START in vocabulary:
        return CHATML
    begins = tokenizer.bos_token is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    return ("{{- bos_token -}}\n" if begins else "") + PLAIN


_TOOLS = "{#- Conversations with tools have a template of their own. -#}\n"
_WITH_TOOLS = (
    "{%- if tools or messages | selectattr('tool_calls', 'defined') | list"
    " or messages | selectattr('role', 'equalto', 'tool') | list %}"
)


def with_tool_template(default: str, tool_use: str) -> str:
    """Return one chat template for two: transformers' `tool_use` for conversations with tools, and the default.

    A model that is trained, served and published by itself has one template.
    """
    if _TOOLS in default:
        return default
    return f"{_TOOLS}{_WITH_TOOLS}{_as_branch(tool_use)}{{% else %}}{_as_branch(default)}{{% endif %}}"


def _as_branch(template: str) -> str:
    """Return a template that renders between two tags what it renders by itself.

    Jinja drops the last line's end of a template, a line's end after a tag, and spaces before a tag that begins a line.
    """
    return "\n" + template.removesuffix("\n") + "{{ '' }}"


_FOLD = """\
{#- The system turn becomes the beginning of the first user turn. -#}
{%- if messages | length > 1 and messages[0]['role'] == 'system' and messages[1]['role'] == 'user' -%}
{%- set messages = [{'role': 'user', 'content': messages[0]['content'] + '\\n\\n' + messages[1]['content']}]
    + messages[2:] -%}
{%- endif %}
"""


def with_folded_system_turn(template: str) -> str:
    """Return a chat template that renders a system turn as the beginning of the first user turn.

    It is part of the model from then on, so training, evaluation and the server render it alike.
    """
    return template if template.startswith(_FOLD) else _FOLD + template
