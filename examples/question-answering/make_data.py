"""Write the example's data: questions about short texts, with the answer as it stands in the text, as SQuAD has it.

A text says who made a thing, where, when and for how much, in changing order; a question asks for one of them. Some
questions ask for what the text does not say, and have no answer.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

MAKERS = (
    "Ada Novak",
    "Omar Haddad",
    "Mei Tanaka",
    "Lena Weber",
    "Paulo Silva",
    "Ruth Okafor",
    "Jan Kowalski",
    "Nora Byrne",
)
THINGS = ("clock", "violin", "bridge", "statue", "boat", "carpet", "lamp", "table")
PLACES = ("Lisbon", "Oslo", "Nairobi", "Prague", "Lima", "Kyoto", "Dublin", "Cairo")
FACTS = {
    "who": ("It was made by {0}.", "Its maker is {0}.", "{0} built it."),
    "where": ("It comes from {0}.", "It was finished in {0}.", "The workshop is in {0}."),
    "when": ("The work ended in {0}.", "It dates from {0}.", "People first saw it in {0}."),
    "price": ("It was sold for {0} euros.", "Somebody paid {0} euros for it.", "Its price was {0} euros."),
}
QUESTIONS = {
    "who": ("Who made the {0}?", "By whom was the {0} made?"),
    "where": ("Where does the {0} come from?", "In which city was the {0} made?"),
    "when": ("When was the {0} made?", "In which year was the {0} finished?"),
    "price": ("How much was paid for the {0}?", "What did the {0} cost?"),
}
UNANSWERED = 0.15  # share of the questions whose answer is not in the text
TRAINING, VALIDATION = 1200, 100


def value(draw: random.Random, kind: str) -> str:
    """Return an answer of a kind."""
    if kind == "who":
        return draw.choice(MAKERS)
    if kind == "where":
        return draw.choice(PLACES)
    return str(draw.randint(1700, 1999)) if kind == "when" else str(draw.randint(2, 99) * 100)


def question(draw: random.Random) -> dict[str, Any]:
    """Return a question with its text and its answer."""
    thing, asked = draw.choice(THINGS), draw.choice(list(FACTS))
    kinds = list(FACTS)
    draw.shuffle(kinds)
    if draw.random() < UNANSWERED:
        kinds.remove(asked)
    context, answers = f"This is the story of a {thing}.", {"text": [], "answer_start": []}
    for kind in kinds:
        found = value(draw, kind)
        before, after = draw.choice(FACTS[kind]).split("{0}")
        if kind == asked:
            answers = {"text": [found], "answer_start": [len(f"{context} {before}")]}
        context += f" {before}{found}{after}"
    return {"context": context, "question": draw.choice(QUESTIONS[asked]).format(thing), "answers": answers}


def rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(3)
    made = [{"id": str(number), **question(draw)} for number in range(TRAINING + VALIDATION)]
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
