// The official Node client, unchanged: calls a tool and answers with its result; prints what it gets as one JSON object.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/package.json`));
const { OpenAI } = require("openai");

const { TEST_MODEL: model, TEST_QUESTION, TEST_RESULT, TEST_TOOLS } = process.env;
const client = new OpenAI({ maxRetries: 0 });
const tools = JSON.parse(TEST_TOOLS);
const messages = [{ role: "user", content: TEST_QUESTION }];
const body = { model, tools, temperature: 0 };
const found = {};

const { message, finish_reason } = (await client.chat.completions.create({ ...body, messages })).choices[0];
found.reason = finish_reason;
found.calls = message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
const results = message.tool_calls.map((call) => ({ role: "tool", tool_call_id: call.id, content: TEST_RESULT }));
const second = await client.chat.completions.create({ ...body, messages: [...messages, message, ...results] });
found.answer = second.choices[0].message.content;

const asked = [];
const weather = {
  ...tools[0].function,
  parse: JSON.parse,
  function: ({ city }) => {
    asked.push(city);
    return TEST_RESULT;
  },
};
for (const stream of [false, true]) {
  const runner = client.chat.completions.runTools({
    ...body, messages, stream, tools: [{ type: "function", function: weather }],
  });
  found[stream ? "streamed" : "whole"] = await runner.finalContent();
}
found.asked = asked;
console.log(JSON.stringify(found));
