"""Text classification by transformers' Trainer alone; prints its accuracy."""

import json

import numpy as np
from arguments import read_arguments, training
from sklearn.metrics import accuracy_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

options = read_arguments()
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForSequenceClassification.from_pretrained(options.model)
labels = {name: number for number, name in model.config.id2label.items()}


def encoded(rows):
    return [{**tokenizer(row["text"], truncation=True), "labels": labels[row["label"]]} for row in rows]


trainer = Trainer(
    model,
    TrainingArguments(**training(options)),
    train_dataset=encoded(options.train),
    data_collator=DataCollatorWithPadding(tokenizer),
)
trainer.train()
validation = encoded(options.validation)
predicted = np.argmax(trainer.predict(validation).predictions, axis=-1)
print(json.dumps({"accuracy": accuracy_score([row["labels"] for row in validation], predicted)}))
