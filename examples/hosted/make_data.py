"""Writes train.jsonl and validation.jsonl: what people ask a library, and its answers, as OpenAI's chat JSONL."""

import json
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM = "You answer for the town library."
ANSWERS = {
    "opening hours": "We are open from 9 to 18 o'clock, on Saturdays until 14.",
    "the café": "The café is on the ground floor and closes at 17 o'clock.",
    "lost cards": "Call us at once and we block the card; a new one costs 5 euros.",
    "loans": "You may keep a book for four weeks and extend it twice.",
    "late fees": "Each day late costs 20 cents, and 10 euros at most.",
    "study rooms": "Rooms are booked online, for up to three hours a day.",
    "printing": "A page costs 10 cents, in colour 40 cents.",
    "parking": "Parking behind the house is free for two hours.",
}
PHRASES = (
    "Tell me about {}.",
    "What should I know about {}?",
    "I have a question about {}.",
    "Can you say something about {}?",
    "Please inform me about {}.",
    "How is it with {}?",
    "A word about {}, please.",
    "Help me with {}.",
)
KEPT_OUT = "Do you know anything about {}?"


def row(phrase: str, topic: str) -> str:
    """Return a conversation as a line."""
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": phrase.format(topic)},
        {"role": "assistant", "content": ANSWERS[topic]},
    ]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def main() -> None:
    """Write both files."""
    for name, phrases in (("train", PHRASES), ("validation", (KEPT_OUT,))):
        text = "".join(row(phrase, topic) for phrase in phrases for topic in ANSWERS)
        (HERE / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
