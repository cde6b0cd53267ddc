// The server's API as the page calls it. Addresses are relative: it may stand behind a prefix.

import { askForKey, currentKey } from "./key";
import { EventReader } from "./sse";

/** What went wrong, in words that may be shown. */
export class Fault extends Error {
  constructor(
    message: string,
    readonly status = 0,
    readonly code = "",
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

/** A response with a good status. Asks for an API key where one is needed. Throws Fault. */
export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  for (;;) {
    const key = currentKey();
    const headers = new Headers(init.headers);
    if (key) headers.set("Authorization", `Bearer ${key}`);
    let response: Response;
    try {
      response = await fetch(path, { ...init, headers, cache: "no-store" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new Fault("The server cannot be reached.");
    }
    if (response.ok) return response;
    if (response.status === 401) {
      if (currentKey() !== key) continue; // another call has asked meanwhile
      if (await askForKey(Boolean(key))) continue;
    }
    throw await faultOf(response);
  }
}

export async function getJson<T>(path: string): Promise<T> {
  return (await (await call(path)).json()) as T;
}

async function faultOf(response: Response): Promise<Fault> {
  const retryAfter = Number(response.headers.get("retry-after") ?? 0);
  try {
    const body = (await response.json()) as { error?: { message?: string; code?: string } };
    const { message, code } = body.error ?? {};
    return new Fault(message ?? `HTTP ${response.status}`, response.status, code ?? "", retryAfter);
  } catch {
    return new Fault(`The server answered ${response.status}.`, response.status, "", retryAfter);
  }
}

export interface CallDelta {
  index: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}
export interface Delta {
  content?: string | null;
  reasoning_content?: string | null;
  tool_calls?: CallDelta[];
}
export interface Timings {
  cache_n?: number;
  prompt_n?: number;
  prompt_ms?: number;
  prompt_per_second?: number;
  predicted_n?: number;
  predicted_ms?: number;
  predicted_per_second?: number;
  draft_n?: number;
  draft_n_accepted?: number;
}
export interface Chunk {
  model?: string;
  choices?: { index?: number; delta?: Delta; finish_reason?: string | null }[];
  timings?: Timings;
  error?: { message?: string; code?: string };
}

/** The chunks of a streamed chat; `onSlot`: where it is computed. Throws Fault or AbortError. */
export async function* streamChat(
  body: Record<string, unknown>,
  session: string,
  signal: AbortSignal,
  onSlot: (slot: number) => void,
): AsyncGenerator<Chunk> {
  const response = await call("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Session-Id": session },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  const slot = response.headers.get("x-slot-id");
  if (slot !== null) onSlot(Number(slot));
  if (response.body === null) throw new Fault("The answer has no body.");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Fault("The connection ended before the answer did.");
    for (const data of events.push(value)) {
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data) as Chunk;
      if (chunk.error) throw new Fault(chunk.error.message ?? "The answer failed.", 0, chunk.error.code);
      yield chunk;
    }
  }
}
