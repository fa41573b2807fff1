"""Write the example's data: sentences whose persons, organisations, places and dates have tags.

A name is made of parts, such as a first and a family name. Validation has names whose parts are known and which stand
together in no training row, beside the names of training.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

FIRST = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Mary", "Niklaus", "Radia", "Ken")
FAMILY = ("Novak", "Okafor", "Lindqvist", "Moreau", "Tanaka", "Weber", "Silva", "Kowalski", "Haddad", "Byrne")
COMPANY = ("Northern", "Blue", "First", "Global", "Green", "United", "Golden", "Silver")
TRADE = ("Bank", "Motors", "Airways", "Foods", "Systems", "Press", "Energy", "Studios")
PLACES = ("Lisbon", "New Delhi", "Oslo", "Buenos Aires", "Nairobi", "Hong Kong", "Prague", "Cape Town", "Lima", "Kyoto")
MONTHS = ("January", "March", "May", "June", "August", "October", "December")
TEMPLATES = (
    "{PER} works for {ORG} in {LOC} .", "On {DATE} , {PER} left {ORG} .", "{ORG} opened an office in {LOC} on {DATE} .",
    "{PER} and {PER} met in {LOC} .", "The head of {ORG} , {PER} , was born in {LOC} .",
    "{LOC} is where {ORG} was founded .", "Since {DATE} , {PER} has lived in {LOC} .",
    "A spokesman of {ORG} said so on {DATE} .", "{PER} will join {ORG} on {DATE} .", "It rained in {LOC} on {DATE} .",
    "Nobody knew the answer .", "The meeting was moved to the next week .",
)  # fmt: skip
TRAINING, VALIDATION = 400, 100


def entity(draw: random.Random, kind: str) -> list[str]:
    """Return the words of a name or a date."""
    if kind == "PER":
        return [draw.choice(FIRST), draw.choice(FAMILY)]
    if kind == "ORG":
        return [draw.choice(COMPANY), draw.choice(TRADE)]
    if kind == "LOC":
        return draw.choice(PLACES).split()
    return [str(draw.randint(1, 28)), draw.choice(MONTHS), str(draw.randint(1990, 2026))]


def sentence(draw: random.Random) -> dict[str, list[str]]:
    """Return a sentence as words with their tags."""
    tokens: list[str] = []
    tags: list[str] = []
    for word in draw.choice(TEMPLATES).split():
        if not word.startswith("{"):
            tokens.append(word)
            tags.append("O")
            continue
        kind = word.strip("{}")
        parts = entity(draw, kind)
        tokens += parts
        tags += [f"B-{kind}", *[f"I-{kind}"] * (len(parts) - 1)]
    return {"tokens": tokens, "tags": tags}


def rows() -> tuple[list[dict[str, list[str]]], list[dict[str, list[str]]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(11)
    found: dict[str, dict[str, list[str]]] = {}
    while len(found) < TRAINING + VALIDATION:
        row = sentence(draw)
        found.setdefault(" ".join(row["tokens"]), row)
    made = list(found.values())
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
