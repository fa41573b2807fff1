"""Translation by transformers' Seq2SeqTrainer alone; prints sacrebleu's BLEU."""

import json

import numpy as np
from arguments import read_arguments, training
from sacrebleu.metrics import BLEU
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

PREFIX = "translate German to English: "

options = read_arguments()
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForSeq2SeqLM.from_pretrained(options.model)


def encoded(rows):
    pairs = [row["translation"] for row in rows]
    return [
        {**tokenizer(PREFIX + pair["de"]), "labels": tokenizer(text_target=pair["en"])["input_ids"]} for pair in pairs
    ]


trainer = Seq2SeqTrainer(
    model,
    Seq2SeqTrainingArguments(**training(options), predict_with_generate=True),
    train_dataset=encoded(options.train),
    data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
)
trainer.train()
result = trainer.predict(encoded(options.validation), max_new_tokens=48, num_beams=1)
ids = np.where(result.predictions < 0, tokenizer.pad_token_id, result.predictions)
answers = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
expected = [row["translation"]["en"] for row in options.validation]
print(json.dumps({"bleu": BLEU().corpus_score(answers, [expected]).score}))
