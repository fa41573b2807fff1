import pytest

from tunesmith_serving.engines.text_generation.text.template import ChatTemplate, TemplateError, load_chat_template
from tunesmith_serving.runtime.errors import ArtifactError

HELLO = [{"role": "user", "content": "<hi> & 'bye'"}]


def render(source: str, **tokens: str) -> str:
    return ChatTemplate(source, tokens).render(HELLO)


def test_variables_and_filters() -> None:
    assert render("{{ bos_token }}{{ messages[0].content }}", bos_token="<s>") == "<s><hi> & 'bye'"
    assert render("{{ messages | tojson }}") == '[{"role": "user", "content": "<hi> & \'bye\'"}]'
    assert render("{% if add_generation_prompt %}yes{% endif %}") == "yes"
    assert len(render("{{ strftime_now('%Y') }}")) == 4


def test_generation_marks_are_only_their_content() -> None:
    assert render("a{% generation %}{{ 1 + 1 }}{% endgeneration %}b") == "a2b"


def test_loop_controls() -> None:
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"


def test_template_that_refuses() -> None:
    with pytest.raises(TemplateError, match="says: no system role"):
        render("{{ raise_exception('no system role') }}")
    with pytest.raises(TemplateError, match="cannot render"):
        render("{{ messages[0].missing.deeper }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_sandbox(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source)


def test_sources() -> None:
    config = {"chat_template": "from config {{ eos_token }}", "eos_token": {"content": "</s>"}}
    for source, expected in [(None, "from config </s>"), ("from file", "from file")]:
        template = load_chat_template(source, config)
        assert template is not None and template.render(HELLO) == expected
    named = load_chat_template(
        None, {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}
    )
    assert named is not None and named.render(HELLO) == "d"
    assert load_chat_template(None, {}) is None
    with pytest.raises(ArtifactError, match="line 2"):
        load_chat_template("fine\n{% if %}", {})
    with pytest.raises(ArtifactError, match="not text"):
        load_chat_template(None, {"chat_template": 5})
