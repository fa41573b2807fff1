import { request, send, withQuery } from "./client";
import { eventsOf } from "./sse";
import type { Checkpoint, Hyperparameters, Job, JobEvent, Method, Page } from "./types";

const JOBS = "/v1/fine_tuning/jobs";
const at = (id: string): string => `${JOBS}/${encodeURIComponent(id)}`;

export interface JobRequest {
  model: string;
  training_file: string;
  validation_file?: string;
  method: Method;
  suffix?: string;
  seed?: number;
}

export const FINISHED: ReadonlySet<string> = new Set(["succeeded", "failed", "cancelled"]);

export const listJobs = (limit: number, signal: AbortSignal, after?: string): Promise<Page<Job>> =>
  request(withQuery(JOBS, { limit, after }), { signal });

export const getJob = (id: string, signal: AbortSignal): Promise<Job> => request(at(id), { signal });

export const createJob = (body: JobRequest): Promise<Job> => request(JOBS, { body });

export type JobAction = "pause" | "resume" | "cancel";

export const changeJob = (id: string, action: JobAction): Promise<Job> =>
  request(`${at(id)}/${action}`, { method: "POST" });

export const listCheckpoints = async (id: string, signal: AbortSignal): Promise<Checkpoint[]> =>
  (await request<Page<Checkpoint>>(`${at(id)}/checkpoints?limit=100`, { signal })).data;

/** Yield a job's events from the first on, as they come, until it has ended. */
export async function* streamEvents(id: string, signal: AbortSignal): AsyncGenerator<JobEvent> {
  const response = await send(`${at(id)}/events?stream=true&limit=100`, { signal });
  if (response.headers.get("content-type")?.startsWith("text/event-stream")) yield* eventsOf<JobEvent>(response);
  // What reads a work folder has no stream, and answers with the newest.
  else yield* ((await response.json()) as Page<JobEvent>).data.toReversed();
}

/** Return the hyper-parameters of a job's method. */
export function hyperparametersOf(job: Job): Hyperparameters {
  const method = job.method;
  return (method && method[method.type]?.hyperparameters) ?? job.hyperparameters;
}

/** Return the part of a tuned model's name that a person gave. */
export function suffixOf(job: Job): string {
  return job.fine_tuned_model?.split(":")[3] ?? "";
}
