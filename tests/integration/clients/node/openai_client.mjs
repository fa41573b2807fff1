// The official Node client, unchanged: prints what it gets as one JSON object.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/package.json`));
const { OpenAI, BadRequestError } = require("openai");

const model = process.env.TEST_MODEL;
const client = new OpenAI({ maxRetries: 0 });
const question = [{ role: "user", content: "What is the learning rate?" }];
const more = { role: "user", content: "more?" };
const greedy = { model, temperature: 0, max_tokens: 12 };
const found = {};

const { data, response } = await client.chat.completions.create({ ...greedy, messages: question }).withResponse();
const message = data.choices[0].message;
found.answer = message.content;
found.status = response.status;

const again = await client.chat.completions.create({ ...greedy, messages: [...question, message, more] });
found.more = again.choices[0].message.content;

found.stream = "";
for await (const chunk of await client.chat.completions.create({ ...greedy, messages: question, stream: true })) {
  found.stream += chunk.choices[0]?.delta?.content ?? "";
}

const helper = client.chat.completions.stream({ ...greedy, messages: question });
const final = await helper.finalMessage();
found.helper = final.content;
const after = await client.chat.completions.create({ ...greedy, messages: [...question, final, more] });
found.moreAfterHelper = after.choices[0].message.content;

found.completion = (await client.completions.create({ ...greedy, prompt: "Tunesmith" })).choices[0].text;
found.models = (await client.models.list()).data.map((card) => card.id);
const several = await client.chat.completions.create({ ...greedy, messages: question, n: 2 });
found.several = several.choices.map((choice) => choice.message.content);

const asked = { model, temperature: 0, max_output_tokens: 12, input: question };
const asResponse = await client.responses.create(asked);
found.responses = asResponse.output_text;
found.responsesStream = "";
for await (const event of await client.responses.create({ ...asked, stream: true })) {
  if (event.type === "response.output_text.delta") found.responsesStream += event.delta;
}
const items = [...question, ...asResponse.output, more];
found.responsesMore = (await client.responses.create({ ...asked, input: items })).output_text;
const form = { type: "json_schema", name: "reply", strict: true, schema: { enum: ["yes", "no"] } };
found.form = JSON.parse((await client.responses.create({ ...asked, text: { format: form } })).output_text).length > 1;

try {
  await client.chat.completions.create({ ...greedy, messages: question, tools: [{ type: "function", function: { name: "f" } }] });
} catch (error) {
  found.refused = [error instanceof BadRequestError, error.param];
}
console.log(JSON.stringify(found));
