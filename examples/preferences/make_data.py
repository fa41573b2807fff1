"""Write the example's data: two answers to each question, of which people prefer the polite one that says why."""

from __future__ import annotations

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

SERVICES = ("library", "museum", "pool", "office", "market", "theatre", "station", "clinic")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
REASONS = ("it is cleaned then", "there is a holiday", "the staff has a course", "the heating is repaired")
QUESTIONS = ("Is the {service} open on {day}?", "Can I come to the {service} on {day}?", "{service} on {day}?")
POLITE = (
    "I am sorry, the {service} is closed on {day}, because {reason}. May I suggest another day?",
    "Unfortunately the {service} is closed on {day}, as {reason}. You are welcome on another day.",
)
RUDE = ("No.", "Closed. Read the sign.", "The {service} is closed on {day}. Go away.", "Why do you ask? No.")
TRAINING, VALIDATION = 300, 60


def pair(draw: random.Random) -> dict[str, str]:
    """Return a question with the better and the worse answer."""
    about = {"service": draw.choice(SERVICES), "day": draw.choice(DAYS), "reason": draw.choice(REASONS)}
    prompt = draw.choice(QUESTIONS).format(**about)
    return {
        "prompt": prompt[0].upper() + prompt[1:],
        "chosen": draw.choice(POLITE).format(**about),
        "rejected": draw.choice(RUDE).format(**about),
    }


def rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(19)
    found: dict[str, dict[str, str]] = {}
    while len(found) < TRAINING + VALIDATION:
        row = pair(draw)
        found["\n".join(row.values())] = row
    made = list(found.values())
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
