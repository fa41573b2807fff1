"""Named entity recognition by transformers' Trainer alone; prints seqeval's F1."""

import json

import numpy as np
from arguments import read_arguments, training
from seqeval.metrics import f1_score
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

options = read_arguments()
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForTokenClassification.from_pretrained(options.model)
numbers = {name: number for number, name in model.config.id2label.items()}


def encoded(row):
    """The first token of each word has its tag, the others have none."""
    found = tokenizer(row["tokens"], is_split_into_words=True, truncation=True)
    words, labels = found.word_ids(), []
    for index, word in enumerate(words):
        first = word is not None and (index == 0 or words[index - 1] != word)
        labels.append(numbers[row["tags"][word]] if first else -100)
    return {**found, "labels": labels}


trainer = Trainer(
    model,
    TrainingArguments(**training(options)),
    train_dataset=[encoded(row) for row in options.train],
    data_collator=DataCollatorForTokenClassification(tokenizer),
)
trainer.train()
result = trainer.predict([encoded(row) for row in options.validation])
predicted, expected = [], []
for best, given in zip(np.argmax(result.predictions, axis=-1), result.label_ids, strict=True):
    predicted.append([model.config.id2label[b] for b, g in zip(best, given, strict=True) if g != -100])
    expected.append([model.config.id2label[g] for g in given if g != -100])
print(json.dumps({"f1": f1_score(expected, predicted)}))
