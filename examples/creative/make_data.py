"""Write the example's data: short rhymes about a subject in a mood.

There are many good answers to each prompt, so that the job is judged by its perplexity and not by exact answers.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))
from config_map import write  # noqa: E402

MOODS = {
    "happy": ("laughs and plays", "sings and sways", "dances through the days"),
    "sad": ("weeps in the rain", "calls us in vain", "will not come again"),
    "calm": ("sleeps in the light", "is quiet and bright", "dreams through the night"),
}
ENDINGS = {
    "happy": ("and that is how it stays.", "in a hundred ways.", "and everyone gives it praise."),
    "sad": ("behind the window pane.", "along the empty lane.", "and only tears remain."),
    "calm": ("and all the world is right.", "far out of everyone's sight.", "soft and silver white."),
}
SUBJECTS = ("sea", "moon", "river", "garden", "wind", "city", "forest", "morning", "winter", "child")
FORMS = ("Write a {mood} rhyme about the {subject}.", "A {mood} verse on the {subject}, please.")
MIDDLES = ("Under the sky", "So near and so far", "When nobody asks", "Once more this year", "Beyond the old wall")
TRAINING, VALIDATION = 400, 60


def rhyme(draw: random.Random) -> dict[str, str]:
    """Return a prompt and one rhyme that answers it."""
    mood, subject = draw.choice(list(MOODS)), draw.choice(SUBJECTS)
    first, second = draw.choice(MOODS[mood]), draw.choice(ENDINGS[mood])
    return {
        "prompt": draw.choice(FORMS).format(mood=mood, subject=subject),
        "completion": f"The {subject} {first},\n{draw.choice(MIDDLES).lower()}, {second}",
    }


def rows() -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the rows for training and for validation."""
    draw = random.Random(17)
    found: dict[str, dict[str, str]] = {}
    while len(found) < TRAINING + VALIDATION:
        row = rhyme(draw)
        found[row["prompt"] + row["completion"]] = row
    made = list(found.values())
    return made[:TRAINING], made[TRAINING:]


if __name__ == "__main__":
    write(HERE, rows())
