"""Write the example's data: German sentences with their English translations, from a small grammar.

German has genders, cases and a verb at the end after a modal verb; English has none of them. Validation has sentences
that training does not have, of the same words.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

# German, English, gender
PEOPLE = (
    ("Lehrer", "teacher", "m"), ("Mutter", "mother", "f"), ("Kind", "child", "n"), ("Koch", "cook", "m"),
    ("Frau", "woman", "f"), ("Mann", "man", "m"), ("Schwester", "sister", "f"), ("Freund", "friend", "m"),
)  # fmt: skip
THINGS = (
    ("Apfel", "apple", "m"), ("Brot", "bread", "n"), ("Suppe", "soup", "f"), ("Buch", "book", "n"),
    ("Brief", "letter", "m"), ("Zeitung", "newspaper", "f"), ("Tisch", "table", "m"), ("Lampe", "lamp", "f"),
)  # fmt: skip
COLOURS = (("rot", "red"), ("alt", "old"), ("neu", "new"), ("klein", "small"))
# Third person, infinitive, English in the third person, English infinitive
VERBS = (
    ("kauft", "kaufen", "buys", "buy"), ("sieht", "sehen", "sees", "see"), ("sucht", "suchen", "looks for", "look for"),
    ("bringt", "bringen", "brings", "bring"), ("nimmt", "nehmen", "takes", "take"),
)  # fmt: skip
MODALS = (("will", "wants to"), ("muss", "must"), ("kann", "can"))
SUBJECT = {"m": "der", "f": "die", "n": "das"}
OBJECT = {"m": "den", "f": "die", "n": "das"}
ENDING = {"m": "en", "f": "e", "n": "e"}
TRAINING, VALIDATION = 700, 80


def sentence(draw: random.Random) -> tuple[str, str]:
    """Return a German sentence and its English translation."""
    person, english_person, gender = draw.choice(PEOPLE)
    thing, english_thing, kind = draw.choice(THINGS)
    third, infinitive, english_third, english_infinitive = draw.choice(VERBS)
    article, noun, english = OBJECT[kind], thing, english_thing
    if draw.random() < 0.5:
        colour, english_colour = draw.choice(COLOURS)
        noun, english = f"{colour}{ENDING[kind]} {thing}", f"{english_colour} {english_thing}"
    subject = f"{SUBJECT[gender].capitalize()} {person}"
    if draw.random() < 0.5:
        modal, english_modal = draw.choice(MODALS)
        return (
            f"{subject} {modal} {article} {noun} {infinitive}.",
            f"The {english_person} {english_modal} {english_infinitive} the {english}.",
        )
    return f"{subject} {third} {article} {noun}.", f"The {english_person} {english_third} the {english}."


def rows() -> tuple[list[dict[str, dict[str, str]]], list[dict[str, dict[str, str]]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(5)
    found: dict[str, str] = {}
    while len(found) < TRAINING + VALIDATION:
        german, english = sentence(draw)
        found[german] = english
    made = [{"translation": {"de": german, "en": english}} for german, english in found.items()]
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
