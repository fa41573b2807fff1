"""Write the example's data: messages to a shop's support, each with the queue that it belongs to.

The messages are made of an opening, a complaint of the queue about a thing, and an ending. Things, openings and endings
are those of all queues, so that only the complaint tells which one it is. Each complaint has a few forms; those of the
validation rows are the same, in messages that training does not have.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

COMPLAINTS = {
    "billing": (
        "I was charged twice for the {thing}", "the invoice for my {thing} shows a wrong amount",
        "your company took too much money for the {thing}", "the discount on the {thing} is missing from the bill",
    ),
    "delivery": (
        "my {thing} has not arrived yet", "the parcel with the {thing} is still on its way",
        "the courier left the {thing} at a wrong address", "the {thing} is said to be delivered, but it is not here",
    ),
    "returns": (
        "I want to send the {thing} back", "how do I get a refund if I return the {thing}",
        "the {thing} does not fit, can I exchange it", "please send me a label to return the {thing}",
    ),
    "defect": (
        "the {thing} broke after two days", "my {thing} does not turn on any more",
        "a part of the {thing} is cracked", "the {thing} makes a strange noise and stops",
    ),
    "account": (
        "I cannot log in to order the {thing}", "please change the password of my account, I bought a {thing}",
        "the page with my {thing} asks for an e-mail address that I no longer have",
        "delete my user profile, I do not need the {thing}",
    ),
    "advice": (
        "which {thing} do you recommend", "is the {thing} good for beginners",
        "what is the difference between the large {thing} and the small one", "does the {thing} go with my old one",
    ),
}  # fmt: skip
THINGS = (
    "lamp", "kettle", "keyboard", "bicycle", "jacket", "camera", "tent", "printer", "chair", "drill", "watch", "radio",
)  # fmt: skip
OPENINGS = ("", "Hello, ", "Hi there, ", "Good morning, ", "Dear team, ", "Excuse me, ")
ENDINGS = (".", ". Please help.", ". Thank you.", ". I am waiting for your answer.", ". What can I do?")
TRAINING, VALIDATION = 480, 120


def rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(7)
    found: dict[str, dict[str, str]] = {}
    while len(found) < TRAINING + VALIDATION:
        label = draw.choice(list(COMPLAINTS))
        complaint = draw.choice(COMPLAINTS[label]).format(thing=draw.choice(THINGS))
        text = f"{draw.choice(OPENINGS)}{complaint}{draw.choice(ENDINGS)}"
        found.setdefault(text, {"text": text[0].upper() + text[1:], "label": label})
    made = list(found.values())
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
