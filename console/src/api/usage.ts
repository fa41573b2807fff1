import { request, withQuery } from "./client";
import type { Bucket } from "./types";

const ROOT = "/v1/organization";

interface Completions {
  input_tokens: number;
  output_tokens: number;
  num_model_requests: number;
  model?: string | null;
}

interface Training {
  trained_tokens: number;
  gpu_seconds: number;
  model?: string | null;
}

interface Costs {
  amount: { value: number; currency: string };
}

export interface Day {
  start: number;
  requests: number;
  input: number;
  output: number;
  trained: number;
  gpuSeconds: number;
  cost: number;
}

export interface ModelUse {
  model: string;
  requests: number;
  input: number;
  output: number;
  trained: number;
}

export interface UsageReport {
  days: Day[];
  models: ModelUse[];
}

const DAY = 86_400;

/** Return what was used on each of the last days, today included. */
export async function getUsage(days: number, signal: AbortSignal): Promise<UsageReport> {
  const start = (Math.floor(Date.now() / 1000 / DAY) - days + 1) * DAY;
  const read = <T>(path: string, group?: string): Promise<{ data: Bucket<T>[] }> =>
    request(withQuery(`${ROOT}/${path}`, { start_time: start, limit: days, "group_by[]": group }), { signal });
  const [asked, trained, costs] = await Promise.all([
    read<Completions>("usage/completions", "model"),
    read<Training>("usage/fine_tuning", "model"),
    read<Costs>("costs"),
  ]);
  const sum = <T>(buckets: Bucket<T>[], day: number, value: (result: T) => number): number =>
    (buckets[day]?.results ?? []).reduce((total, result) => total + value(result), 0);
  return {
    days: asked.data.map((bucket, day) => ({
      start: bucket.start_time,
      requests: sum(asked.data, day, (result) => result.num_model_requests),
      input: sum(asked.data, day, (result) => result.input_tokens),
      output: sum(asked.data, day, (result) => result.output_tokens),
      trained: sum(trained.data, day, (result) => result.trained_tokens),
      gpuSeconds: sum(trained.data, day, (result) => result.gpu_seconds),
      cost: sum(costs.data, day, (result) => result.amount.value),
    })),
    models: byModel(asked.data, trained.data),
  };
}

function byModel(asked: Bucket<Completions>[], trained: Bucket<Training>[]): ModelUse[] {
  const found = new Map<string, ModelUse>();
  const of = (model: string | null | undefined): ModelUse => {
    const name = model ?? "unknown";
    const use = found.get(name) ?? { model: name, requests: 0, input: 0, output: 0, trained: 0 };
    found.set(name, use);
    return use;
  };
  for (const result of asked.flatMap((bucket) => bucket.results)) {
    const use = of(result.model);
    use.requests += result.num_model_requests;
    use.input += result.input_tokens;
    use.output += result.output_tokens;
  }
  for (const result of trained.flatMap((bucket) => bucket.results)) of(result.model).trained += result.trained_tokens;
  return [...found.values()].sort((one, other) => other.input + other.output - one.input - one.output);
}
