import { request, withQuery } from "./client";
import type { ApiKey, NewKey, Page } from "./types";

export const SCOPES = ["files", "fine_tuning", "models", "inference", "usage", "admin"] as const;

export interface KeyRequest {
  name: string;
  scopes?: string[];
  expires_in_seconds?: number;
}

const keysOf = (project: string): string => `/v1/organization/projects/${encodeURIComponent(project)}/api_keys`;

/** Return a project's keys that are not revoked. */
export async function listKeys(project: string, signal: AbortSignal): Promise<ApiKey[]> {
  const found: ApiKey[] = [];
  for (let after: string | undefined; ;) {
    const page: Page<ApiKey> = await request(withQuery(keysOf(project), { limit: 100, after }), { signal });
    found.push(...page.data);
    if (!page.has_more || !page.last_id) return found;
    after = page.last_id;
  }
}

export const createKey = (project: string, body: KeyRequest): Promise<NewKey> => request(keysOf(project), { body });

export const rotateKey = (project: string, id: string, overlap: number): Promise<NewKey> =>
  request(`${keysOf(project)}/${encodeURIComponent(id)}/rotate`, { body: { overlap_seconds: overlap } });

export const revokeKey = (project: string, id: string): Promise<unknown> =>
  request(`${keysOf(project)}/${encodeURIComponent(id)}`, { method: "DELETE" });

export interface Project {
  id: string;
  name: string;
}

export const listProjects = async (signal: AbortSignal): Promise<Project[]> =>
  (await request<Page<Project>>("/v1/organization/projects?limit=100", { signal })).data;
