"""Fine-tunes a model with OpenAI's client, follows the job, pauses and resumes it, and asks what came of it.

It is written for OpenAI's API and knows nothing of Tunesmith. The client reads OPENAI_BASE_URL and OPENAI_API_KEY.
"""

import argparse
import json
import time
from pathlib import Path

from openai import OpenAI

HERE = Path(__file__).resolve().parent

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--model", default="gpt-4o-mini-2024-07-18", help="what is fine-tuned")
parser.add_argument("--epochs", default=40, type=int, help="how often it sees each row")
options = parser.parse_args()

client = OpenAI()

files = {}
for name in ("train", "validation"):
    with (HERE / f"{name}.jsonl").open("rb") as rows:
        files[name] = client.files.create(file=rows, purpose="fine-tune")
    print(f"uploaded {files[name].filename}: {files[name].id}, {files[name].bytes} bytes")

job = client.fine_tuning.jobs.create(
    model=options.model,
    training_file=files["train"].id,
    validation_file=files["validation"].id,
    suffix="library",
    seed=1,
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": options.epochs}}},
)
print(f"created {job.id}")

seen = set()
trains = was_paused = False
while job.status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.5)
    job = client.fine_tuning.jobs.retrieve(job.id)
    for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
        if event.id not in seen:
            seen.add(event.id)
            print(f"  {event.message}")
            trains = trains or event.type == "metrics"
    if job.status == "running" and trains and not was_paused:
        was_paused = True
        print(f"{client.fine_tuning.jobs.pause(job.id).status} ...")
    if job.status == "paused":
        print(f"paused; then {client.fine_tuning.jobs.resume(job.id).status}")
if job.status != "succeeded":
    raise SystemExit(f"{job.id} has {job.status}: {job.error.message if job.error else ''}")
print(f"{job.id} has made {job.fine_tuned_model} of {job.trained_tokens} tokens")

results = client.files.content(job.result_files[0]).text.splitlines()
print(f"results: {results[0]} ... {results[-1]}")


def ask(model: str, messages: list) -> str:
    """Return a model's answer, streamed."""
    chunks = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=64, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices).strip()


right = 0
kept_out = [json.loads(line)["messages"] for line in (HERE / "validation.jsonl").read_text("utf-8").splitlines()]
for *question, wanted in kept_out:
    answer = ask(job.fine_tuned_model, question)
    right += answer == wanted["content"]
    print(f"{'right' if answer == wanted['content'] else 'WRONG'}: {question[-1]['content']} {answer}")
print(f"{right} of {len(kept_out)} answers to questions that it was not trained on are right")

checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))  # the last one first
checkpoint = checkpoints[min(1, len(checkpoints) - 1)]
print(f"checkpoints of steps {', '.join(str(found.step_number) for found in checkpoints)}")
print(f"checkpoint of step {checkpoint.step_number}: {checkpoint.fine_tuned_model_checkpoint}")
print(f"  {ask(checkpoint.fine_tuned_model_checkpoint, kept_out[0][:-1])}")
