import { errorOf, headers, request, send, withQuery } from "./client";
import type { FileObject, Page } from "./types";

const FILES = "/v1/files";
const at = (id: string): string => `${FILES}/${encodeURIComponent(id)}`;

export const PURPOSES = ["fine-tune", "batch", "evals", "user_data", "assistants", "vision"] as const;

export const listFiles = async (signal: AbortSignal, purpose?: string): Promise<FileObject[]> =>
  (await request<Page<FileObject>>(withQuery(FILES, { purpose, limit: 1000 }), { signal })).data;

export const getFile = (id: string, signal: AbortSignal): Promise<FileObject> => request(at(id), { signal });

export const deleteFile = (id: string): Promise<unknown> => request(at(id), { method: "DELETE" });

/** Return the first bytes of a file as text, and whether there are more. */
export async function readStart(
  id: string,
  most: number,
  signal: AbortSignal,
): Promise<{ text: string; more: boolean }> {
  const response = await send(`${at(id)}/content`, { signal });
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (reader && text.length < most) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), more: false };
    text += decoder.decode(value, { stream: true });
  }
  await reader?.cancel();
  return { text: text.slice(0, most), more: true };
}

/** Save a file as the browser saves downloads. */
export async function saveFile(file: FileObject): Promise<void> {
  const blob = await (await send(`${at(file.id)}/content`)).blob();
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = file.filename;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** Upload a file. `fetch` tells nothing of what was sent, so this is an XMLHttpRequest. */
export function uploadFile(
  file: File,
  purpose: string,
  onProgress: (part: number) => void,
  signal: AbortSignal,
): Promise<FileObject> {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("purpose", purpose); // first, so that a wrong one is refused before the content is sent
    form.append("file", file);
    const upload = new XMLHttpRequest();
    upload.open("POST", FILES);
    for (const [name, value] of Object.entries(headers())) upload.setRequestHeader(name, value);
    upload.upload.onprogress = (event) => onProgress(event.total ? event.loaded / event.total : 0);
    upload.onload = () =>
      upload.status < 300
        ? resolve(JSON.parse(upload.responseText) as FileObject)
        : reject(errorOf(upload.status, upload.responseText));
    upload.onerror = () => reject(errorOf(0, '{"error":{"message":"The upload broke off. Try again."}}'));
    upload.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    signal.addEventListener("abort", () => upload.abort());
    upload.send(form);
  });
}
