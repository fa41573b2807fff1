"""Write the example's data: conversations of a pizzeria's assistant, of several turns.

What the assistant says depends on earlier turns: the last answer repeats the pizza and the size that were ordered.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

SYSTEM = "You take orders for a pizzeria."
PIZZAS = ("Margherita", "Funghi", "Salami", "Tonno", "Hawaii", "Quattro Formaggi", "Diavola", "Verdura")
SIZES = ("small", "medium", "large")
PRICES = {"small": 7, "medium": 9, "large": 12}
GREETINGS = (
    "Hello, I would like a pizza.",
    "Hi! Can I order?",
    "Good evening, I am hungry.",
    "I want to order something.",
)
ORDERS = ("A {pizza}, please.", "I take the {pizza}.", "One {pizza}.", "Do you have {pizza}? Then that.", "{pizza}!")
ANSWERS = ("{size}, please.", "The {size} one.", "I think {size} is enough.", "{size}.", "Make it {size}.")
TRAINING, VALIDATION = 300, 60


def conversation(draw: random.Random) -> list[dict[str, str]]:
    """Return the turns of a conversation."""
    pizza, size = draw.choice(PIZZAS), draw.choice(SIZES)
    said = draw.choice(ANSWERS).format(size=size)
    turns = (
        draw.choice(GREETINGS), "Welcome! Which pizza would you like?",
        draw.choice(ORDERS).format(pizza=pizza), f"A {pizza}. Small, medium or large?",
        said[0].upper() + said[1:], f"One {size} {pizza} for {PRICES[size]} euros. Thank you!",
    )  # fmt: skip
    roles = ("user", "assistant")
    return [
        {"role": "system", "content": SYSTEM},
        *({"role": roles[number % 2], "content": text} for number, text in enumerate(turns)),
    ]


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(13)
    found: dict[str, dict[str, Any]] = {}
    while len(found) < TRAINING + VALIDATION:
        turns = conversation(draw)
        found[" ".join(turn["content"] for turn in turns)] = {"messages": turns}
    made = list(found.values())
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
