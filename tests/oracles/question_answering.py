"""Extractive question answering by transformers' Trainer alone; prints SQuAD's exact match and F1.

As in transformers' own example for SQuAD 2: an answer is the best span of the context, or none if [CLS] is better.
"""

import json
import re
from collections import Counter

import numpy as np
import torch
from arguments import read_arguments, training
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, Trainer, TrainingArguments

LONGEST = 30  # tokens of an answer

options = read_arguments()
tokenizer = AutoTokenizer.from_pretrained(options.model)
model = AutoModelForQuestionAnswering.from_pretrained(options.model)


def encoded(row):
    """The question and its context fit into one window in these rows."""
    found = tokenizer(row["question"], row["context"], return_offsets_mapping=True)
    offsets, parts = found.pop("offset_mapping"), found.sequence_ids()
    start = end = 0  # [CLS]
    if row["answers"]["text"]:
        first = row["answers"]["answer_start"][0]
        last = first + len(row["answers"]["text"][0])
        inside = [i for i, (a, b) in enumerate(offsets) if parts[i] == 1 and a < last and b > first]
        start, end = inside[0], inside[-1]
    return {**found, "start_positions": start, "end_positions": end}, [
        pair if part == 1 else None for pair, part in zip(offsets, parts, strict=True)
    ]


def collate(rows):
    positions = {name: torch.tensor([row[name] for row in rows]) for name in ("start_positions", "end_positions")}
    inputs = [{k: v for k, v in row.items() if k not in positions} for row in rows]
    return {**tokenizer.pad(inputs, return_tensors="pt"), **positions}


def best_span(starts, ends, offsets, context):
    found, score = "", starts[0] + ends[0]
    for start in range(len(offsets)):
        for end in range(start, min(start + LONGEST, len(offsets))):
            if offsets[start] and offsets[end] and starts[start] + ends[end] > score:
                found, score = context[offsets[start][0] : offsets[end][1]], starts[start] + ends[end]
    return found


def words(text):
    text = re.sub(r"[^\w\s]", "", text.lower())
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(answer, expected):
    if not words(answer) or not words(expected):
        return float(words(answer) == words(expected))
    shared = sum((Counter(words(answer)) & Counter(words(expected))).values())
    precision, recall = shared / len(words(answer)), shared / len(words(expected))
    return 2 * precision * recall / (precision + recall) if shared else 0.0


trainer = Trainer(
    model,
    TrainingArguments(**training(options)),
    train_dataset=[encoded(row)[0] for row in options.train],
    data_collator=collate,
)
trainer.train()
model.eval()
answers = []
with torch.no_grad():
    for row in options.validation:
        inputs, offsets = encoded(row)
        outputs = model(**{k: v.to(model.device) for k, v in collate([inputs]).items()})
        starts, ends = outputs.start_logits[0].numpy(), outputs.end_logits[0].numpy()
        answers.append(best_span(starts, ends, offsets, row["context"]))
expected = [(row["answers"]["text"] or [""])[0] for row in options.validation]
pairs = list(zip(answers, expected, strict=True))
exact = float(np.mean([words(answer) == words(wanted) for answer, wanted in pairs]))
print(json.dumps({"exactMatch": exact, "f1": float(np.mean([f1(*pair) for pair in pairs]))}))
