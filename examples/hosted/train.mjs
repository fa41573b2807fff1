// Fine-tunes a model with OpenAI's client for Node, follows the job, pauses and resumes it, and asks what came of it.
// It is written for OpenAI's API and knows nothing of Tunesmith. The client reads OPENAI_BASE_URL and OPENAI_API_KEY.
// node train.mjs [MODEL [EPOCHS]]

import fs from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const [model = "gpt-4o-mini-2024-07-18", epochs = "40"] = process.argv.slice(2);
const here = new URL("./", import.meta.url);
const client = new OpenAI();

const files = {};
for (const name of ["train", "validation"]) {
  const rows = fs.createReadStream(new URL(`${name}.jsonl`, here));
  files[name] = await client.files.create({ file: rows, purpose: "fine-tune" });
  console.log(`uploaded ${files[name].filename}: ${files[name].id}, ${files[name].bytes} bytes`);
}

let job = await client.fineTuning.jobs.create({
  model,
  training_file: files.train.id,
  validation_file: files.validation.id,
  suffix: "library",
  seed: 1,
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: Number(epochs) } } },
});
console.log(`created ${job.id}`);

const seen = new Set();
let trains = false;
let wasPaused = false;
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(500);
  job = await client.fineTuning.jobs.retrieve(job.id);
  const events = await client.fineTuning.jobs.listEvents(job.id, { limit: 100 });
  for (const event of events.data.toReversed()) {
    if (!seen.has(event.id)) {
      seen.add(event.id);
      console.log(`  ${event.message}`);
      trains ||= event.type === "metrics";
    }
  }
  if (job.status === "running" && trains && !wasPaused) {
    wasPaused = true;
    console.log(`${(await client.fineTuning.jobs.pause(job.id)).status} ...`);
  }
  if (job.status === "paused") {
    console.log(`paused; then ${(await client.fineTuning.jobs.resume(job.id)).status}`);
  }
}
if (job.status !== "succeeded") throw new Error(`${job.id} has ${job.status}: ${job.error?.message}`);
console.log(`${job.id} has made ${job.fine_tuned_model} of ${job.trained_tokens} tokens`);

const results = (await (await client.files.content(job.result_files[0])).text()).trim().split("\n");
console.log(`results: ${results[0]} ... ${results.at(-1)}`);

async function ask(model, messages) {
  const chunks = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 64, stream: true });
  let answer = "";
  for await (const chunk of chunks) answer += chunk.choices[0]?.delta.content ?? "";
  return answer.trim();
}

let right = 0;
const lines = fs.readFileSync(new URL("validation.jsonl", here), "utf8").trim().split("\n");
const keptOut = lines.map((line) => JSON.parse(line).messages);
for (const messages of keptOut) {
  const wanted = messages.at(-1).content;
  const answer = await ask(job.fine_tuned_model, messages.slice(0, -1));
  right += answer === wanted;
  console.log(`${answer === wanted ? "right" : "WRONG"}: ${messages.at(-2).content} ${answer}`);
}
console.log(`${right} of ${keptOut.length} answers to questions that it was not trained on are right`);

const checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data; // the last one first
const checkpoint = checkpoints[Math.min(1, checkpoints.length - 1)];
console.log(`checkpoints of steps ${checkpoints.map((found) => found.step_number).join(", ")}`);
console.log(`checkpoint of step ${checkpoint.step_number}: ${checkpoint.fine_tuned_model_checkpoint}`);
console.log(`  ${await ask(checkpoint.fine_tuned_model_checkpoint, keptOut[0].slice(0, -1))}`);
