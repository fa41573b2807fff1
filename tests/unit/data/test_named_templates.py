"""Several templates of a tokenizer become one, which renders what transformers renders with the template it chooses."""

from typing import Any

import pytest

from support.tiny_models import train_tokenizer
from tunesmith_api.failures import StageError
from tunesmith_serving.engines.text_generation.text.template import ChatTemplate
from tunesmith_trainer.models.chat_template import settled_template

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}<|im_end|>\n{% endfor %}"
CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}"
)
TOOLS = "{% if tools %}<tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>{% endif %}"
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}},
}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
TALK: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
WITH_CALL = [TALK[0], {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "1"}]


def tokenizer(**templates: str) -> Any:
    made = train_tokenizer()
    made.chat_template = templates
    return made


@pytest.mark.parametrize(
    ("default", "tool_use"),
    [
        (TURNS, TOOLS + CALLS),
        ("\n\n" + TURNS + "\n", "\n" + TOOLS + CALLS + "\n\n"),
        (TURNS + "\n   ", "  " + TOOLS + CALLS + "\n \t"),
        (
            "{%- if true %}\n" + TURNS + "\n{%- endif -%}\n",
            "{#- no text -#}\n" + TOOLS + CALLS + "{%- if true %}{% endif %}",
        ),
        ("{% macro one(m) %}{{ m.role }}{% endmacro %}" + TURNS, "{% set x = 1 %}" + TOOLS + CALLS + "{{ x }}"),
    ],
)
def test_the_joined_template_renders_as_the_one_that_transformers_takes(default: str, tool_use: str) -> None:
    several = tokenizer(default=default, tool_use=tool_use)
    joined = settled_template(several, "model", fold=False)
    server = ChatTemplate(joined, {})
    for messages, tools, name in ((TALK, None, "default"), (TALK, [TOOL], "tool_use"), (WITH_CALL, [TOOL], "tool_use")):
        for prompt in (False, True):
            theirs = several.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=prompt, chat_template=name
            )
            assert theirs == several.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=prompt
            )
            assert server.render(messages, prompt, tools or ()) == theirs
    # What was called stays visible in a conversation that goes on without tools.
    assert '"add"' in server.render(WITH_CALL)


def test_it_is_joined_once() -> None:
    joined = settled_template(tokenizer(default=TURNS, tool_use=TOOLS + CALLS), "model", fold=True)
    assert settled_template(tokenizer(default=joined, tool_use=TOOLS + CALLS), "model", fold=True) == joined


def test_only_the_default_of_templates_for_other_purposes() -> None:
    assert settled_template(tokenizer(default=TURNS, rag=CALLS), "model", fold=False) == TURNS


def test_none_is_the_default() -> None:
    with pytest.raises(StageError, match="model: its chat templates are called rag, tool_use") as caught:
        settled_template(tokenizer(tool_use=CALLS, rag=CALLS), "model", fold=False)
    assert caught.value.remedy == "Write the one to train with into chat_template.jinja"
