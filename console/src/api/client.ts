/** Requests to the service that serves this page. */

const STORED = "tunesmith-key";

let key: string | null = sessionStorage.getItem(STORED);
let onRefused: () => void = () => {};

/** An answer that says what is wrong. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly param: string | null = null,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

export function currentKey(): string | null {
  return key;
}

/** Use a key from now on, until the tab is closed; null forgets it. */
export function setKey(next: string | null): void {
  key = next;
  if (next === null) sessionStorage.removeItem(STORED);
  else sessionStorage.setItem(STORED, next);
}

/** Call a function when the service refuses the key. */
export function whenRefused(call: () => void): void {
  onRefused = call;
}

/** Headers of every request: who asks, and that no other site's page does. */
export function headers(): Record<string, string> {
  return { "x-tunesmith-console": "1", ...(key === null ? {} : { authorization: `Bearer ${key}` }) };
}

export interface Options {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
}

/** Send a request, and return the response if it is a success. */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const { method = options.body === undefined ? "GET" : "POST", body, signal } = options;
  const response = await fetch(path, {
    method,
    headers: body === undefined ? headers() : { ...headers(), "content-type": "application/json" },
    body: body === undefined ? null : JSON.stringify(body),
    signal: signal ?? null,
  }).catch((error: unknown) => {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "The service does not answer. Check that it runs, and try again.");
  });
  if (!response.ok) {
    if (response.status === 401) onRefused();
    throw errorOf(response.status, await response.text());
  }
  return response;
}

/** Send a request, and return the JSON of its answer. */
export async function request<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  return (await response.json()) as T;
}

/** Return what a route answers, or null if this service does not have it. */
export async function requestIfAny<T>(path: string, options: Options = {}): Promise<T | null> {
  try {
    return await request<T>(path, options);
  } catch (error) {
    if (error instanceof ApiError && (error.status === 404 || error.status === 405)) return null;
    throw error;
  }
}

export function errorOf(status: number, text: string): ApiError {
  try {
    const { message, param, code } = JSON.parse(text).error;
    return new ApiError(status, String(message), param ?? null, code ?? null);
  } catch {
    return new ApiError(status, `The service answered with status ${status}.`);
  }
}

/** Return a path with a query; what is undefined is left out. */
export function withQuery(path: string, query: Record<string, string | number | string[] | undefined>): string {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined) found.append(name, String(one));
    }
  }
  const text = found.toString();
  return text ? `${path}?${text}` : path;
}
