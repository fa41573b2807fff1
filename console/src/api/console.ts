/** What the console's own routes answer. A field that a service does not have is left out or null. */

import { request, requestIfAny, type Options } from "./client";
import type { Method } from "./types";

type Maybe<T> = T | null | undefined;

export interface Provider {
  name: string;
  url: string;
}

export interface Session {
  person?: Maybe<{ name?: string; email?: string } | string>;
  project?: Maybe<{ id: string; name: string }>;
  organization?: Maybe<{ id: string; name: string }>;
  scopes?: Maybe<string[]>;
  projects?: Maybe<{ id: string; name: string; organization: string }[]>;
  providers?: Maybe<Provider[]>;
  /** `workFolder`: what jobs have left on this machine is shown, and nothing can be changed. */
  mode?: Maybe<string>;
}

export interface CurvePoint {
  step: number;
  loss?: Maybe<number>;
  learningRate?: Maybe<number>;
  evalLoss?: Maybe<number>;
}

export interface Gate {
  metric: string;
  bound?: Maybe<number | string>;
  before?: Maybe<number>;
  after?: Maybe<number>;
  served?: Maybe<number>;
  passed?: Maybe<boolean>;
}

export type Facts = Record<string, unknown>;

export interface Progress {
  step?: Maybe<number>;
  totalSteps?: Maybe<number>;
  etaSeconds?: Maybe<number>;
  tokensPerSecond?: Maybe<number>;
  detail?: Maybe<string>;
}

export interface WorstRow {
  row?: Maybe<number>;
  location?: Maybe<string>;
  prompt?: Maybe<string>;
  reference?: Maybe<string>;
  before?: Maybe<string>;
  after?: Maybe<string>;
  served?: Maybe<Record<string, string>>;
  score?: Maybe<number>;
}

export interface JobDetail {
  status?: Maybe<string>;
  reason?: Maybe<string>;
  stage?: Maybe<string>;
  message?: Maybe<string>;
  progress?: Maybe<Progress>;
  curve?: Maybe<CurvePoint[]>;
  plan?: Maybe<Facts>;
  measured?: Maybe<Facts>;
  gates?: Maybe<Gate[]>;
  worstRows?: Maybe<WorstRow[]>;
  yaml?: Maybe<string>;
  fineTunedModel?: Maybe<string>;
}

export interface PreviewPiece {
  text: string;
  /** Whether the model learns to write it. */
  trained: boolean;
  /** Whether it is a token of the model's own, such as the end of a turn. */
  special?: boolean;
}

export interface PreviewRow {
  line?: Maybe<number>;
  pieces: PreviewPiece[];
}

export interface Lengths {
  unit: string;
  limit?: Maybe<number>;
  shortest?: number;
  median?: number;
  percentile95?: number;
  longest?: number;
  histogram: { from: number; to: number; rows: number }[];
}

export interface Problem {
  level: "error" | "warn";
  message: string;
  examples?: (number | null)[][];
}

export interface FileReport {
  format?: Maybe<string>;
  rows?: Maybe<number>;
  tokens?: Maybe<number>;
  duplicates?: Maybe<number>;
  lengths?: Maybe<Lengths>;
  isWhole?: boolean;
  problems?: Maybe<Problem[]>;
  preview?: Maybe<PreviewRow[]>;
}

export interface PlanRequest {
  model: string;
  training_file: string;
  validation_file?: string;
  method?: Method;
  suffix?: string;
  seed?: number;
}

export interface Fit {
  device: string;
  method?: Maybe<string>;
  strategy?: Maybe<string>;
  memory?: Maybe<number>;
  available?: Maybe<number>;
  fits: boolean;
  seconds?: Maybe<number>;
  cost?: Maybe<number>;
  isChosen?: boolean;
}

export interface Plan {
  fits?: Maybe<Fit[]>;
  isPossible?: boolean;
  message?: Maybe<string>;
  remedies?: Maybe<string[]>;
  device?: Maybe<string>;
  seconds?: Maybe<number>;
  cost?: Maybe<number>;
  memory?: Maybe<number>;
  rows?: Maybe<number>;
  hyperparameters?: Maybe<Record<string, number>>;
  yaml?: Maybe<string>;
}

export interface Revision {
  revision: string;
  artifact?: Maybe<string>;
  time?: Maybe<string>;
  isCurrent?: boolean;
}

export interface ModelDetail {
  kind?: Maybe<string>;
  base?: Maybe<string>;
  aliases?: Maybe<string[]>;
  method?: Maybe<string>;
  contextLength?: Maybe<number>;
  price?: Maybe<Record<string, number>>;
  jobId?: Maybe<string>;
  lastUsedAt?: Maybe<number>;
  own?: boolean;
  wanted?: Maybe<string>;
  isServed?: boolean;
  revisions?: Maybe<Revision[]>;
  rollout?: Maybe<{
    phase?: Maybe<string>;
    revision?: Maybe<string>;
    previousRevision?: Maybe<string>;
    reason?: Maybe<string>;
    message?: Maybe<string>;
  }>;
  replicas?: Maybe<{ now: number; ready: number }>;
}

const ROOT = "/console/api";

export const getSession = (signal?: AbortSignal): Promise<Session> =>
  request(`${ROOT}/session`, signal ? { signal } : {});

export const chooseProject = (project: string): Promise<unknown> =>
  request(`${ROOT}/session/project`, { body: { project } });

export const getJobDetail = (id: string, signal: AbortSignal): Promise<JobDetail | null> =>
  requestIfAny(`${ROOT}/jobs/${encodeURIComponent(id)}`, { signal });

export const getFileReport = (id: string, model: string | undefined, signal: AbortSignal): Promise<FileReport | null> =>
  requestIfAny(`${ROOT}/files/${encodeURIComponent(id)}/report${model ? `?model=${encodeURIComponent(model)}` : ""}`, {
    signal,
  });

export const getPlan = (body: PlanRequest, signal: AbortSignal): Promise<Plan | null> =>
  requestIfAny(`${ROOT}/plan`, { body, signal } satisfies Options);

export const getModelDetail = (name: string, signal: AbortSignal): Promise<ModelDetail | null> =>
  requestIfAny(`${ROOT}/models/${encodeURIComponent(name)}`, { signal });

export const rollBack = (name: string, revision: string): Promise<unknown> =>
  request(`${ROOT}/models/${encodeURIComponent(name)}/rollback`, { body: { revision } });
