import { Code } from "../../ui/Code";
import { Tabs } from "../../ui/Tabs";
import type { Message } from "../../api/models";

const SAMPLE: Message[] = [{ role: "user", content: "Hello" }];

/** How a model is asked by programs. */
export function Snippets({ model, messages = SAMPLE }: { model: string; messages?: Message[] }) {
  const asked = messages.length > 0 ? messages : SAMPLE;
  const base = `${window.location.origin}/v1`;
  return (
    <Tabs
      label="Language"
      tabs={[
        ["Python", <Code label="Python" text={python(base, model, asked)} />],
        ["curl", <Code label="curl" text={curl(base, model, asked)} />],
        ["Node", <Code label="Node" text={node(base, model, asked)} />],
      ]}
    />
  );
}

const linesOf = (messages: Message[], indent: string): string =>
  messages.map((message) => `${indent}${JSON.stringify(message)},`).join("\n");

const python = (base: string, model: string, messages: Message[]): string => `from openai import OpenAI

client = OpenAI(base_url="${base}", api_key="YOUR_KEY")
answer = client.chat.completions.create(
    model="${model}",
    messages=[
${linesOf(messages, "        ")}
    ],
)
print(answer.choices[0].message.content)`;

const node = (base: string, model: string, messages: Message[]): string => `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${base}", apiKey: "YOUR_KEY" });
const answer = await client.chat.completions.create({
  model: "${model}",
  messages: [
${linesOf(messages, "    ")}
  ],
});
console.log(answer.choices[0].message.content);`;

/** In a shell's single quotes, only these must be written otherwise. */
const quoted = (text: string): string => text.replaceAll("'", "'\\''");

const curl = (base: string, model: string, messages: Message[]): string => `curl ${base}/chat/completions \\
  -H "Authorization: Bearer $OPENAI_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${quoted(JSON.stringify({ model, messages }, null, 2))}'`;
