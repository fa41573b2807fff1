"""What chat templates get of tools: what transformers gives them, and what some of them need besides."""

import json
from typing import Any

import pytest

from support.tool_templates import DEEPSEEK, GLM, HERMES, LLAMA, MISTRAL, PHI, QWEN_CODER
from tunesmith_api.chat.definitions import ToolsError, read_calls, read_tools
from tunesmith_api.chat.styles import ToolStyle, calls_as_text, takes_tools, tool_style, tools_in_message
from tunesmith_serving.engines.text_generation.openai.tools.answers import Content, ToolAnswer
from tunesmith_serving.engines.text_generation.openai.tools.formats.registry import FORMATS
from tunesmith_serving.engines.text_generation.openai.tools.plan import plan_tools
from tunesmith_serving.engines.text_generation.openai.tools.request import ToolFields
from tunesmith_serving.engines.text_generation.text.template import ChatTemplate, TemplateError
from tunesmith_trainer.data.chat_templates import CHATML, PLAIN

NO_TOOLS = "{% for message in messages %}{{ 'use the tools: ' + message['content'] }}{% endfor %}"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = read_tools(
    [
        {
            "type": "function",
            "function": {
                "parameters": {"type": "object", "properties": {"city": {"type": "string", "title": "Städte"}}},
                "description": "Says the weather.",
                "name": "weather",
                "strict": True,
            },
        },
        {"type": "function", "function": {"name": "now", "description": None}},
    ]
)
USER = {"role": "user", "content": "Rain?"}
ARGUMENTS = {"city": "Köln", "days": 2}
CALLS = read_calls([{"id": "call_1", "function": {"name": "weather", "arguments": json.dumps(ARGUMENTS)}}])
CALLING = {"role": "assistant", "content": "", "tool_calls": CALLS}
RESULT = {"role": "tool", "content": "7", "tool_call_id": "call_1"}
CONVERSATION = [USER, CALLING, RESULT]


def render(source: str, messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> str:
    return ChatTemplate(source, TOKENS).render(messages, tools=tools)


@pytest.mark.parametrize(
    ("source", "style", "has_tools"),
    [
        (HERMES, ToolStyle.HERMES, True),
        (LLAMA, ToolStyle.LLAMA, True),
        (MISTRAL, ToolStyle.MISTRAL, True),
        (PHI, ToolStyle.PHI, True),
        (QWEN_CODER, ToolStyle.QWEN_CODER, True),
        (GLM, ToolStyle.GLM, True),
        (DEEPSEEK, ToolStyle.DEEPSEEK, True),
        (CHATML, ToolStyle.HERMES, True),
        (PLAIN, ToolStyle.HERMES, True),
        (NO_TOOLS, None, False),
        ("{{ 'tools }} tools' }}{% set x = \"tools\" %}{{ message.tools_left }} tools", None, False),
        ("{%- if tools %}<tool_call><function=name>{% endif %}", ToolStyle.QWEN_CODER, True),
        ("{%- if tools %}<tool_call>name<arg_key>{% endif %}", ToolStyle.GLM, True),
        ("{% if tools is defined and tools %}<|tool▁calls▁begin|>{% endif %}", None, True),
        ("{{ messages[0]['tools'] }}<|tool|>", ToolStyle.PHI, True),
    ],
    ids=str,
)
def test_the_style_by_the_text_of_a_template(source: str, style: ToolStyle | None, has_tools: bool) -> None:
    assert (tool_style(source), takes_tools(source)) == (style, has_tools)


def test_phi_takes_tools_in_a_message_only() -> None:
    assert tools_in_message(PHI)
    assert not any(map(tools_in_message, [HERMES, LLAMA, MISTRAL, CHATML, NO_TOOLS]))


@pytest.mark.parametrize("messages", [[USER], CONVERSATION], ids=["question", "result"])
@pytest.mark.parametrize(
    "source", [HERMES, LLAMA, QWEN_CODER, GLM, CHATML, PLAIN], ids="hermes llama qwen glm chatml plain".split()
)
def test_rendered_as_transformers_does(source: str, messages: list[dict[str, Any]]) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    plain = [{**tool, "function": {k: v for k, v in tool["function"].items() if k != "strict"}} for tool in TOOLS]
    for tools in (plain, None):
        texts, _ = render_jinja_template(
            [messages], tools=tools, chat_template=source, add_generation_prompt=True, **TOKENS
        )
        assert render(source, messages, tools or []) == texts[0]
        assert ("Says the weather." in texts[0]) == bool(tools)


def test_fields_of_a_function_are_in_one_order_and_strict_is_not_for_the_model() -> None:
    text = render("{{ tools | tojson }}", [USER], TOOLS)
    assert list(json.loads(text)[0]["function"]) == ["name", "description", "parameters"]
    assert list(json.loads(text)[1]["function"]) == ["name"]
    assert "Städte" in text


def test_mistral_gets_ids_of_nine_characters() -> None:
    text = render(MISTRAL, CONVERSATION, TOOLS)
    [call, result] = [part.split('"')[0] for part in text.replace('"call_id": "', '"id": "').split('"id": "')[1:]]
    assert call == result and len(call) == 9
    nine = [USER, {**CALLING, "tool_calls": [{**CALLS[0], "id": "abcdefgh1"}]}, {**RESULT, "tool_call_id": "abcdefgh1"}]
    assert text.replace(call, "abcdefgh1") == render(MISTRAL, nine, TOOLS)
    unnamed = [USER, {**CALLING, "tool_calls": [{k: v for k, v in CALLS[0].items() if k != "id"}]}]
    assert "[TOOL_CALLS]" in render(MISTRAL, unnamed, TOOLS)


def test_phi_gets_tools_in_the_system_message_and_calls_as_text() -> None:
    text = render(PHI, CONVERSATION, TOOLS)
    described = text.split("<|tool|>")[1].split("<|/tool|>")[0]
    assert [one["name"] for one in json.loads(described)] == ["weather", "now"]
    assert text.startswith("<|system|><|tool|>[")
    expected = json.dumps([{"name": "weather", "arguments": ARGUMENTS}], ensure_ascii=False)
    assert f"<|assistant|><|tool_call|>{expected}<|/tool_call|><|end|>" in text
    assert render(PHI, [{"role": "system", "content": "Be brief."}, USER], TOOLS).startswith(
        "<|system|>Be brief.<|tool|>"
    )
    assert CONVERSATION == [USER, CALLING, RESULT], "the messages are left as they are"


def test_deepseek_gets_arguments_as_text() -> None:
    expected = json.dumps(ARGUMENTS, ensure_ascii=False)
    text = render(DEEPSEEK, CONVERSATION, TOOLS)
    assert f"<｜tool▁sep｜>weather\n```json\n{expected}\n```<｜tool▁call▁end｜>" in text
    assert CALLING["tool_calls"][0]["function"]["arguments"] == ARGUMENTS, "the messages are left as they are"
    filtered = DEEPSEEK.replace("['arguments'] +", "['arguments'] | tojson +")
    assert render(filtered, CONVERSATION, TOOLS) == text, "a template that makes text of them itself gets the object"


def test_results_have_the_name_of_their_function() -> None:
    names = "{% for m in messages %}{{ m.tool_calls is defined }} {{ m.name }}|{% endfor %}"
    assert render(names, CONVERSATION, []) == "False |True |False weather|"
    assert render(names, [USER, CALLING, {**RESULT, "name": "other"}], []).endswith("other|")
    assert render(names, [USER, {**RESULT, "tool_call_id": "unknown"}], []) == "False |False |"


def test_without_tools_the_variable_is_none() -> None:
    """transformers gives both variables to every template; some ask whether they are none."""
    assert render("{{ tools is none }} {{ documents is none }}", [USER], []) == "True True"


def test_templates_without_tools_refuse_them() -> None:
    with pytest.raises(TemplateError, match="says nothing of tools"):
        render(NO_TOOLS, [USER], TOOLS)
    with pytest.raises(TemplateError, match="leaves out the tool calls"):
        render(NO_TOOLS, CONVERSATION, [])
    assert render(NO_TOOLS, [USER, RESULT], []) == "use the tools: Rain?use the tools: 7"


@pytest.mark.parametrize("style", list(ToolStyle))
def test_calls_as_text_are_read_back(style: ToolStyle) -> None:
    parser, content = ToolAnswer(FORMATS[style], ["weather"], None, ()), Content()
    content.add([*parser.push(calls_as_text(style, CALLS * 2)), *parser.finish()])
    assert content.text == ""
    assert [json.loads(call["arguments"]) for call in content.calls] == [ARGUMENTS] * 2


@pytest.mark.parametrize(
    ("source", "written"),
    [
        (QWEN_CODER, "<tool_call>\n<function=weather>\n<parameter=city>\n5\n</parameter>\n</function>\n</tool_call>"),
        (GLM, "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>5</arg_value>\n</tool_call>"),
        (DEEPSEEK, calls_as_text(ToolStyle.DEEPSEEK, [{"function": {"name": "weather", "arguments": {"city": "5"}}}])),
    ],
    ids=["qwen", "glm", "deepseek"],
)
def test_calls_by_the_template_and_the_tools_of_a_request(source: str, written: str) -> None:
    for choice in ("auto", "required"):
        fields = ToolFields.model_validate({"tools": TOOLS, "tool_choice": choice})
        plan = plan_tools(fields, source, lambda text: None, json.dumps)
        assert plan is not None and plan.is_forced == (choice == "required")
        parser, content = plan.parser(), Content()
        content.add([*parser.push(written), *parser.finish()])
        assert [(call["name"], json.loads(call["arguments"])) for call in content.calls] == [("weather", {"city": "5"})]


def function(**fields: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", **fields}}]


@pytest.mark.parametrize(
    ("tools", "path", "problem"),
    [
        ({}, "", "not a list"),
        ([5], "[0]", "type is 5"),
        ([{"name": "f"}], "[0]", "type is None"),
        ([{"type": "custom", "custom": {"name": "f"}}], "[0]", "type is 'custom'"),
        ([{"type": "function"}], "[0].function", "is None"),
        (function(name=None), "[0].function.name", "is None"),
        (function(name="a b"), "[0].function.name", "is 'a b'"),
        (function() + function(), "[1].function.name", "earlier function"),
        (function(description=5), "[0].function.description", "not a text"),
        (function(parameters=[]), "[0].function.parameters", "not an object"),
        (function(strict="yes"), "[0].function.strict", "not a boolean"),
    ],
)
def test_wrong_tools_are_refused(tools: Any, path: str, problem: str) -> None:
    with pytest.raises(ToolsError, match=problem) as caught:
        read_tools(tools)
    assert caught.value.path == path and caught.value.remedy
