"""What pairs become: tokens, targets, batches; and what a job is refused for before it trains."""

import json

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, NllbTokenizer
from transformers.utils.sentencepiece_model_pb2_new import ModelProto

from support.source_tree import ROOT
from support.tiny_tasks import build_task_model
from support.translation_jobs import build_translator, nested_rows, run_job, translation_job
from tunesmith_api.failures import StageError
from tunesmith_api.work_folder import Stage
from tunesmith_trainer.data.token_store import LabelledStore, TokenStore
from tunesmith_trainer.models.checks import check_small_files
from tunesmith_trainer.models.encoder_decoder import ARCHITECTURES
from tunesmith_trainer.models.tokenizer import load_tokenizer
from tunesmith_trainer.tasks.translation.encoder import PairEncoder
from tunesmith_trainer.tasks.translation.rows import TranslationRow
from tunesmith_trainer.tasks.translation.task import Translation


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return build_translator(tmp_path_factory.mktemp("base"), "t5")


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    """A tiny M2M100 with a tokenizer of NLLB's class, which marks texts with their languages."""
    folder = build_task_model(tmp_path_factory.mktemp("nllb"), "m2m_100", vocab_size=300)
    letters = {letter: index for index, letter in enumerate("▁abcdefghijklmnopqrstuvwxyzHKFVBPSW", 4)}
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, **letters}
    tokenizer = NllbTokenizer(vocab=words, merges=[])
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id, model.config.eos_token_id, model.config.decoder_start_token_id = 1, 2, 2
    model.generation_config.update(pad_token_id=1, eos_token_id=2, decoder_start_token_id=2, bos_token_id=0)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    return folder


def row(source, target, line=1):
    return TranslationRow(f"rows.jsonl:{line}", source=source, target=target)


def test_sources_have_the_prefix_and_targets_an_end(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    encoder = PairEncoder(tokenizer, 64, "translate German to English: ")
    [[piece]] = encoder.encode([row("Hund mag Brot", "dog likes bread")])
    assert tokenizer.decode(piece.ids) == "translate German to English: Hund mag Brot</s>"
    assert tokenizer.decode(piece.targets) == "dog likes bread</s>"
    assert piece.mask == [1] * len(piece.ids)


def test_an_end_is_written_where_the_tokenizer_writes_none(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.backend_tokenizer.post_processor = None
    [[piece]] = PairEncoder(tokenizer, 64).encode([row("Hund", "dog")])
    assert piece.targets[-1] == tokenizer.eos_token_id
    assert piece.ids[-1] != tokenizer.eos_token_id  # the server has only tokenizer.json
    tokenizer.eos_token = None
    with pytest.raises(StageError, match="no token that ends a text"):
        PairEncoder(tokenizer, 64)


def test_long_pairs_are_skipped_and_counted(base):
    encoder = PairEncoder(AutoTokenizer.from_pretrained(base), 12)
    rows = [row("Hund " * 20, "dog", 1), row("Hund", "dog", 2), row("Hund", "dog " * 20, 3)]
    assert [len(pieces) for pieces in encoder.encode(rows)] == [0, 1, 0]
    assert encoder.log.skipped == 2
    first, second = encoder.log.locations["skipped"]
    assert first.startswith("rows.jsonl:1 (its source has ")
    assert second.startswith("rows.jsonl:3 (its target has ")


def test_batches_give_the_loss_of_transformers(base):
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForSeq2SeqLM.from_pretrained(base).eval()
    pairs = [("Hund mag Brot", "dog likes bread"), ("Katze", "cat"), ("Kind sucht Wasser heute", "child seeks")]
    encoder, task = PairEncoder(tokenizer, 64), Translation()
    examples = []
    for [piece] in encoder.encode([row(*pair) for pair in pairs]):
        examples.append((torch.tensor(piece.ids).numpy(), None, torch.tensor(piece.targets).numpy()))
    batch = task.collator(model, 8)(examples)
    assert all(value.shape[1] % 8 == 0 for value in batch.values())
    labels = batch.pop("labels")
    with torch.no_grad():
        found = task.loss_sum(model(**batch), labels) / task.target_count(labels)
        total, count = 0.0, 0
        for source, target in pairs:  # alone, without any padding
            inputs, wanted = tokenizer(source, return_tensors="pt"), tokenizer(text_target=target, return_tensors="pt")
            total += float(model(**inputs, labels=wanted.input_ids).loss) * wanted.input_ids.shape[1]
            count += wanted.input_ids.shape[1]
    assert float(found) == pytest.approx(total / count, abs=1e-5)


def test_prepare_stores_pairs_and_says_what_it_has_found(base, tmp_path):
    rows = [*nested_rows(20), {"translation": {"de": "Boot", "en": "Boot"}}]
    work = translation_job(tmp_path, base, rows)
    result = run_job(work, Stage.PREPARE)
    facts = {"sourceLanguage": "de", "targetLanguage": "en", "prefix": "translate German to English: "}
    assert result["data"]["facts"] == facts
    assert result["data"]["format"] == "translation"
    store = TokenStore.open(work.stage(Stage.PREPARE) / "data" / "train")
    assert isinstance(store, LabelledStore)
    report = json.loads((work.stage(Stage.PREPARE) / "data" / "data_report.json").read_text())
    assert report["equalPairs"] == {"rows": 1, "examples": ["rows.jsonl:21"]}
    assert report["samples"][0]["pieces"][0]["text"].startswith("translate German to English: ")


def test_models_of_other_kinds_are_refused_with_what_to_do(base, tmp_path):
    llama = build_task_model(tmp_path / "llama", "llama", hidden_size=64)
    with pytest.raises(StageError, match="LlamaForCausalLM is not supported") as caught:
        run_job(translation_job(tmp_path / "work", llama, nested_rows(10)), Stage.PREPARE)
    assert "columns: {prompt: translation.de, completion: translation.en}" in caught.value.remedy
    spec = {"task": "textGeneration", "export": {"precisions": ["fp32"]}}
    columns = {"prompt": "translation.de", "completion": "translation.en"}
    work = translation_job(tmp_path / "other", llama, nested_rows(10), columns=columns, **spec)
    assert run_job(work, Stage.PREPARE)["data"]["format"] == "promptCompletion"


def test_a_model_that_does_not_say_how_answers_begin_is_refused(base, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    del config["decoder_start_token_id"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(StageError, match=r"config\.json has no decoder_start_token_id"):
        run_job(translation_job(tmp_path / "work", folder, nested_rows(10)), Stage.PREPARE)


def test_nllb_gets_the_languages_of_the_job(nllb, tmp_path):
    with pytest.raises(StageError, match="sourceLanguage is de, which the model does not know"):
        run_job(translation_job(tmp_path / "unnamed", nllb, nested_rows(10)), Stage.PREPARE)
    languages = {"sourceLanguage": "deu_Latn", "targetLanguage": "eng_Latn"}
    columns = {"source": "translation.de", "target": "translation.en"}
    work = translation_job(tmp_path / "named", nllb, nested_rows(10), columns=columns, translation=languages)
    result = run_job(work, Stage.PREPARE)
    folder = work.root / result["model"]["path"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    german, english = tokenizer.convert_tokens_to_ids(["deu_Latn", "eng_Latn"])
    settings = json.loads((folder / "generation_config.json").read_text())
    assert settings["forced_bos_token_id"] == english
    ids, _, target = TokenStore.open(work.stage(Stage.PREPARE) / "data" / "train")[0]
    assert (ids[0], ids[-1], target[0], target[-1]) == (german, 2, english, 2)
    # What a server reads is tokenizer.json alone.
    from tokenizers import Tokenizer

    assert Tokenizer.from_file(str(folder / "tokenizer.json")).encode("abc").ids[0] == german


def test_the_documented_tokenizer_of_marian(tmp_path, monkeypatch):
    """Marian has SentencePiece files instead of tokenizer.json; the message names the page with what makes one."""
    folder = build_translator(tmp_path / "opus-mt-de-en", "marian")
    trained = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    pieces = [*trained, [">>deu<<", 0.0]]
    (folder / "vocab.json").write_text(json.dumps({piece: index for index, (piece, _) in enumerate(pieces)}))
    halves = {"source.spm": trained[3:150], "target.spm": trained[100:]}
    for name, half in halves.items():
        parts = [ModelProto.SentencePiece(piece=piece, score=score) for piece, score in half]
        (folder / name).write_bytes(ModelProto(pieces=parts).SerializeToString())
    with pytest.raises(StageError, match="tokenizer.json is missing") as caught:
        check_small_files(folder, "my-model", 64, ARCHITECTURES)
    assert "docs/translation.md" in caught.value.remedy
    page = (ROOT / "docs" / "translation.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(page.split("```python\n")[1].split("```")[0], {})
    check_small_files(folder, "my-model", 64, ARCHITECTURES)
    tokenizer = load_tokenizer(folder)
    ids = tokenizer(">>deu<< the learning rate").input_ids
    assert ids[0] == len(trained) and ids[-1] == tokenizer.eos_token_id and tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the learning rate"
    assert tokenizer.convert_tokens_to_ids([piece for piece, _ in trained]) == list(range(len(trained)))
