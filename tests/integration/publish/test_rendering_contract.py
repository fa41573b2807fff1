"""Training and the server make the same tokens of a conversation, under the templates of the supported families."""

import json
from pathlib import Path
from typing import Any

import pytest

from support import tool_templates
from support.tiny_models import CORPUS, write_manifest
from tunesmith_api.spec import DatasetFormat
from tunesmith_serving.artifact.opening import open_artifact
from tunesmith_serving.engines.text_generation.openai.prompt import PromptError
from tunesmith_serving.engines.text_generation.text.loading import load_text
from tunesmith_serving.replay.requests import RequestLine, prompt_ids
from tunesmith_trainer.data.chat_templates import CHATML, PLAIN
from tunesmith_trainer.data.encode import Encoder
from tunesmith_trainer.data.evaluation_rows import evaluation_line
from tunesmith_trainer.data.formats import RowParser
from tunesmith_trainer.data.target_check import TargetCheck
from tunesmith_trainer.data.token_store import TokenStore
from tunesmith_trainer.evaluate.prompts import read_requests
from tunesmith_trainer.export.rendering import compare_rendering

SPECIAL = (
    "<unk> <s> </s> <pad> <|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> [INST] [/INST] "
    "<start_of_turn> <end_of_turn> <|user|> <|assistant|> <|system|> <|end|> [TOOL_CALLS] <|tool_call|> <|/tool_call|> "
    "<｜end▁of▁sentence｜>"
).split()
LLAMA3 = """\
{{- bos_token }}{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
MISTRAL = """\
{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}\
{{ raise_exception('no system turns') }}{% elif message['role'] == 'user' %}\
{{ '[INST] ' + message['content'] + ' [/INST]' }}\
{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}{% endfor %}"""
GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
PHI3 = """\
{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
QWEN3 = """\
{%- set ns = namespace(last=messages | length) %}
{%- for message in messages %}{%- set content = message.content %}
{%- if message.role == 'assistant' and not loop.last %}{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", True),
    "plain": (PLAIN, "</s>", True),
    "plain with BOS": ("{{- bos_token -}}\n" + PLAIN, "</s>", True),
    "llama3": (LLAMA3, "<|eot_id|>", True),
    "mistral": (MISTRAL, "</s>", False),
    "gemma": (GEMMA, "<end_of_turn>", False),
    "phi3": (PHI3, "<|end|>", True),
    "qwen3": (QWEN3, "<|im_end|>", True),
}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


THOUGHT = "<think>\nfirst\n</think>\n\n"
CONVERSATIONS: list[list[dict[str, str]]] = [
    [user("What is the learning rate?"), assistant("The size of each step.")],
    [user("one"), assistant("two"), user("three"), assistant("four")],
    [user("Grüße 東京 🙂🚀"), assistant("naïve\tcafé")],
    [user("a <|im_end|> b </s> <s> [INST] c <|eot_id|> <end_of_turn>"), assistant("d <unk> e")],
    [user("  spaces before and after  "), assistant("  spaces  ")],
    [user("ends with a newline\n"), assistant("\n\nbegins with one")],
    [user("a\r\nb"), assistant("c\r\n")],
    [user("reason"), assistant(f"{THOUGHT}yes"), user("again"), assistant(f"{THOUGHT}no")],
]
WITH_SYSTEM = [
    [{"role": "system", "content": "Be brief."}, *CONVERSATIONS[0]],
    [{"role": "developer", "content": "Be brief.\n"}, *CONVERSATIONS[1]],
]


def save_tokenizer(folder: Path, template: str | None, eos: str, adds_bos: bool) -> Any:
    """An artifact with this tokenizer alone, and the tokenizer as training loads it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token=eos, pad_token="<pad>", unk_token="<unk>"
    )
    fast.chat_template = template
    export = folder / "onnx" / "fp32"
    fast.save_pretrained(export)
    write_manifest(folder)
    return AutoTokenizer.from_pretrained(export)


def check(folder: Path, tokenizer: Any, rows: list[dict[str, Any]], format: DatasetFormat, **options: Any) -> Any:
    """Encode rows as `prepare` does and compare them with what the server makes of them as `publish` does."""
    encoder = Encoder(tokenizer, options.pop("max_length", 512), **options)
    parser = RowParser(format, None)
    parsed = [parser.parse(f"rows.jsonl:{number}", row) for number, row in enumerate(rows, 1)]
    pairs, lines = [], []
    for pieces in encoder.encode(parsed):
        for piece in pieces:
            line = evaluation_line(encoder, piece, len(pairs), piece is pieces[0])
            lines += [json.dumps(line)] if line else []
            pairs.append((piece.ids, piece.mask))
    store = TokenStore.write(folder / "store", pairs)
    (folder / "evaluation.jsonl").write_text("\n".join(lines))
    requests = read_requests(folder / "evaluation.jsonl", 1000)
    served, template, _ = load_text(open_artifact(folder, "fp32"))
    answers = []
    for entry in requests:
        try:
            body = RequestLine(request=entry.request).body()
            answers.append({"promptIds": prompt_ids(body, served, template)})
        except PromptError as error:
            answers.append({"error": str(error)})
    found = compare_rendering(requests, answers, store, tokenizer)
    assert found["rows"] == len(requests)
    return found


@pytest.mark.parametrize("loss_on", ["assistant", "all"])
@pytest.mark.parametrize("adds_bos", [False, True])
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_conversations(name: str, adds_bos: bool, loss_on: str, tmp_path: Path) -> None:
    template, eos, takes_system = TEMPLATES[name]
    tokenizer = save_tokenizer(tmp_path, template, eos, adds_bos)
    conversations = CONVERSATIONS + (WITH_SYSTEM if takes_system else [])
    rows = [{"messages": conversation} for conversation in conversations]
    found = check(tmp_path, tokenizer, rows, DatasetFormat.MESSAGES, loss_on=loss_on)
    assert found["rows"] >= len(rows)
    assert found["boundaryRows"] <= 1, "only the answer that begins with newlines may share a token with its prompt"


WEATHER = {"type": "function", "function": {"name": "weather", "description": "Wetter, 東京", "parameters": {}}}
CALLING = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": '{"city": "Köln", "n": 1.0}'}}],
}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": '{"rain": false}'}
WITH_TOOLS = {
    "chatml": (CHATML, "<|im_end|>"),
    "plain": (PLAIN, "</s>"),
    "hermes": (tool_templates.HERMES, "<|im_end|>"),
    "llama": (tool_templates.LLAMA, "<|eot_id|>"),
    "mistral": (tool_templates.MISTRAL, "</s>"),
    "phi": (tool_templates.PHI, "<|end|>"),
    "qwen-coder": (tool_templates.QWEN_CODER, "<|im_end|>"),
    "glm": (tool_templates.GLM, "<|user|>"),
    "deepseek": (tool_templates.DEEPSEEK, "<｜end▁of▁sentence｜>"),
}


@pytest.mark.parametrize("name", sorted(WITH_TOOLS))
def test_tool_calls(name: str, tmp_path: Path) -> None:
    """The calls are learned, as the server renders what comes before them; the tools and their results are not."""
    template, eos = WITH_TOOLS[name]
    tokenizer = save_tokenizer(tmp_path, template, eos, False)
    asked = [
        user("Rain?"),
        CALLING,
        RESULT,
        assistant("No."),
        user("And now?"),
        CALLING,
        RESULT,
        assistant("Still no."),
    ]
    spoken = [user("Rain?"), {**CALLING, "content": "Let me see."}, RESULT, assistant("No.")]
    rows = [
        {"messages": asked, "tools": [WEATHER]},
        {"messages": asked[:2], "tools": [{**WEATHER, "function": {**WEATHER["function"], "strict": True}}]},
        {"messages": asked[:4]},
        *([] if name in ("llama", "mistral") else [{"messages": spoken, "tools": [WEATHER]}]),
    ]
    found = check(tmp_path, tokenizer, rows, DatasetFormat.MESSAGES)
    assert found["rows"] >= len(rows)
    learned = []
    for row in rows:
        [pieces] = Encoder(tokenizer, 1024).encode([RowParser(DatasetFormat.MESSAGES, None).parse("x:1", row)])
        for piece in pieces:
            TargetCheck(tokenizer).check(piece)
            learned.append(tokenizer.decode([id_ for id_, mask in zip(piece.ids, piece.mask, strict=True) if mask]))
    assert all("weather" in text and "Köln" in text for text in learned if "o." not in text)
    assert not any("rain" in text or "Wetter" in text or "Rain" in text for text in learned)


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_shortened_conversations(name: str, tmp_path: Path) -> None:
    template, eos, _ = TEMPLATES[name]
    tokenizer = save_tokenizer(tmp_path, template, eos, False)
    turns = [turn for number in range(9) for turn in (user(f"question {number}"), assistant(f"answer {number}"))]
    found = check(tmp_path, tokenizer, [{"messages": turns}], DatasetFormat.MESSAGES, max_length=120)
    assert found["rows"] >= 1


@pytest.mark.parametrize("adds_bos", [False, True])
def test_plain_texts(adds_bos: bool, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, None, "</s>", adds_bos)
    rows = [{"text": text} for text in [*CORPUS, " ".join(CORPUS * 5), "ends with EOS</s>"]]
    found = check(tmp_path, tokenizer, rows, DatasetFormat.TEXT, max_length=64)
    assert found["rows"] == len(rows)


def test_a_second_rendering_of_the_same_template_is_told_apart(tmp_path: Path) -> None:
    """The comparison sees what it is for: the server's template has one newline more."""
    from tunesmith_api.failures import StageError

    template, eos, _ = TEMPLATES["chatml"]
    tokenizer = save_tokenizer(tmp_path, template, eos, False)
    file = tmp_path / "onnx" / "fp32" / "chat_template.jinja"
    file.write_text(file.read_text().replace("assistant\\n", "assistant\\n\\n"))
    write_manifest(tmp_path)
    with pytest.raises(StageError, match="the server makes other tokens of the request"):
        check(tmp_path, tokenizer, [{"messages": CONVERSATIONS[0]}], DatasetFormat.MESSAGES)


def test_text_parts(tmp_path: Path) -> None:
    """Content as a list of parts is joined alike in a row of the data and in a request."""
    template, eos, _ = TEMPLATES["chatml"]
    tokenizer = save_tokenizer(tmp_path, template, eos, False)
    content = [{"type": "text", "text": "one"}, {"type": "text", "text": "two "}, {"type": "text", "text": "three"}]
    row = {"messages": [{"role": "user", "content": content}, assistant("four")]}
    (encoded,) = next(iter(Encoder(tokenizer, 512).encode([RowParser(DatasetFormat.MESSAGES, None).parse("x:1", row)])))
    served, chat, _ = load_text(open_artifact(tmp_path, "fp32"))
    ids = prompt_ids(RequestLine(request={"messages": row["messages"][:1]}).body(), served, chat)
    assert list(ids) == encoded.ids[: encoded.mask.index(1)]
