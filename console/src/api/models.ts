import { request, send } from "./client";
import { eventsOf } from "./sse";
import type { Model } from "./types";

export type ModelKind = "base" | "tuned" | "checkpoint";

export const listModels = async (signal: AbortSignal): Promise<Model[]> =>
  (await request<{ data: Model[] }>("/v1/models", { signal })).data;

export const deleteModel = (id: string): Promise<unknown> =>
  request(`/v1/models/${encodeURIComponent(id)}`, { method: "DELETE" });

export function kindOf(id: string): ModelKind {
  if (!id.startsWith("ft:")) return "base";
  return id.includes(":ckpt-step-") ? "checkpoint" : "tuned";
}

/** Return the base of a model: the name between the first colons. */
export const baseOf = (id: string): string => (id.startsWith("ft:") ? (id.split(":")[1] ?? id) : id);

/** Return the model that was tuned before this one from the same base, with the same suffix if there is one. */
export function previousOf(id: string, models: Model[]): string | undefined {
  const own = models.find((model) => model.id === id);
  const older = models
    .filter((model) => model.id !== id && kindOf(model.id) === "tuned" && baseOf(model.id) === baseOf(id))
    .filter((model) => own === undefined || model.created <= own.created)
    .sort((one, other) => other.created - one.created);
  const suffix = id.split(":")[3];
  return (older.find((model) => model.id.split(":")[3] === suffix) ?? older[0])?.id;
}

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface Sampling {
  temperature: number;
  max_tokens: number;
}

interface Chunk {
  choices: { delta: { content?: string | null } }[];
  error?: { message: string };
}

/** Yield a model's answer piece by piece. */
export async function* ask(
  model: string,
  messages: Message[],
  sampling: Sampling,
  signal: AbortSignal,
): AsyncGenerator<string> {
  const body = { model, messages, ...sampling, stream: true };
  for await (const chunk of eventsOf<Chunk>(await send("/v1/chat/completions", { body, signal }))) {
    if (chunk.error) throw new Error(chunk.error.message);
    const piece = chunk.choices[0]?.delta.content;
    if (piece) yield piece;
  }
}
