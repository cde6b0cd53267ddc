// One answer on its way: what the server streams becomes a message.

import { Fault, streamChat, type Chunk, type Delta, type Timings } from "../server/api";
import type { Conversation, Finish, Message, Stats } from "./conversation";

export class Run {
  slot = -1;
  nChunks = 0; // with text: about as many tokens
  private readonly controller = new AbortController();
  private readonly begin = performance.now();
  private firstAt = 0;
  private contentAt = 0;
  private timings: Timings = {};

  constructor(
    readonly conversation: Conversation,
    readonly message: Message,
    private readonly body: Record<string, unknown>,
    private readonly onChange: () => void,
  ) {}

  /** Text a second so far, in chunks; 0 until there are some. */
  get perSecond(): number {
    const ms = performance.now() - this.firstAt;
    return this.firstAt && this.nChunks > 3 && ms > 200 ? ((this.nChunks - 1) / ms) * 1000 : 0;
  }

  get isThinking(): boolean {
    return Boolean(this.message.reasoning) && !this.contentAt;
  }

  stop(): void {
    this.controller.abort();
  }

  /** Reads the answer to its end. Never throws: what went wrong is told in the message. */
  async read(): Promise<void> {
    const { message } = this;
    try {
      const { id } = this.conversation;
      const onSlot = (slot: number) => (this.slot = slot);
      for await (const chunk of streamChat(this.body, id, this.controller.signal, onSlot)) {
        this.take(chunk);
      }
      message.finish ??= "stop";
    } catch (error) {
      if (this.controller.signal.aborted) {
        message.finish = "stopped";
      } else {
        message.finish = "error";
        message.error = inWords(error);
      }
    }
    message.stats = this.stats();
    this.onChange();
  }

  private take(chunk: Chunk): void {
    if (chunk.model !== undefined) this.message.model = chunk.model;
    if (chunk.timings !== undefined) this.timings = chunk.timings;
    // Of several choices (`n`, among the further parameters) the first is shown.
    const choice = chunk.choices?.find(({ index }) => !index);
    if (choice?.delta !== undefined) this.takeDelta(choice.delta);
    if (choice?.finish_reason) this.message.finish = choice.finish_reason as Finish;
    this.onChange();
  }

  private takeDelta(delta: Delta): void {
    const { message } = this;
    const now = performance.now();
    if (delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + delta.reasoning_content;
    if (delta.content) message.content += delta.content;
    for (const part of delta.tool_calls ?? []) {
      const calls = (message.calls ??= []);
      const call = (calls[part.index] ??= { id: "", name: "", arguments: "" });
      if (part.id) call.id = part.id;
      call.name += part.function?.name ?? "";
      call.arguments += part.function?.arguments ?? "";
    }
    const isSpoken = Boolean(delta.content || delta.tool_calls?.length);
    if (!isSpoken && !delta.reasoning_content) return;
    this.nChunks++;
    this.firstAt ||= now;
    if (isSpoken) this.contentAt ||= now;
  }

  private stats(): Stats {
    const t = this.timings;
    const thinkUntil = this.contentAt || performance.now();
    const stats: Stats = {
      nPrompt: (t.prompt_n ?? 0) + (t.cache_n ?? 0),
      nCached: t.cache_n ?? 0,
      nGenerated: t.predicted_n ?? this.nChunks,
      perSecond: t.predicted_per_second ?? this.perSecond,
      firstMs: this.firstAt ? this.firstAt - this.begin : 0,
    };
    if (this.message.reasoning) stats.thinkMs = thinkUntil - this.firstAt;
    if (t.draft_n) stats.draftRate = (t.draft_n_accepted ?? 0) / t.draft_n;
    return stats;
  }
}

function inWords(error: unknown): string {
  if (!(error instanceof Fault)) return `Something went wrong in this page: ${String(error)}`;
  const later = error.retryAfter ? ` It asks to try again in ${error.retryAfter} s.` : "";
  return error.message + later;
}
