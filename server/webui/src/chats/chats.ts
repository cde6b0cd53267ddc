// All conversations, which one is shown, and the answers that are being written. No elements here.

import {
  add, goTo, newConversation, openCalls, path, requestOf, titleOf, versions, type Conversation,
  type Message, type Settings,
} from "./conversation";
import { Run } from "./run";
import type { Store } from "./store";

// A browser opens six connections to a server; the board and everything else need some too.
export const MAX_RUNS = 4;
const SAVE_EVERY_MS = 2000;

export interface Listener {
  /** The list or what is in its lines has changed. */
  onList(): void;
  /** Another conversation is shown, or its path has changed. */
  onPath(): void;
  /** A message of the shown path has grown. */
  onGrown(message: Message): void;
  /** An answer has ended, or could not begin. */
  onEnd(run: Run): void;
  onProblem(text: string): void;
}

export class Chats {
  all: Conversation[] = [];
  current: Conversation = newConversation();
  models: string[] = []; // among which a conversation may choose; none: there is one
  private readonly runs = new Map<string, Run>();
  private readonly channel = new BroadcastChannel("slotmux");

  constructor(
    private readonly store: Store,
    private readonly listener: Listener,
  ) {
    this.channel.onmessage = (event: MessageEvent<string>) => void this.refresh(event.data);
  }

  /** Reads what is kept; shows the conversation of this id, or a new one. */
  async load(id: string | null): Promise<void> {
    this.all = (await this.store.all()).sort((a, b) => b.updated - a.updated);
    const last = this.all[0];
    this.current =
      this.all.find((conversation) => conversation.id === id) ?? newConversation(last?.settings);
    this.listener.onList();
    this.listener.onPath();
  }

  select(id: string): void {
    const found = this.all.find((conversation) => conversation.id === id);
    if (found === undefined || found === this.current) return;
    this.current = found;
    this.shown();
  }

  /** Shows an empty conversation with the settings of this one; it is kept once it has a turn. */
  create(): void {
    this.current = newConversation(this.current.settings);
    this.shown();
  }

  rename(title: string): void {
    this.current.title = titleOf(title);
    this.current.isNamed = true;
    this.save(this.current);
  }

  async remove(conversation: Conversation): Promise<void> {
    this.runs.get(conversation.id)?.stop();
    this.all = this.all.filter((other) => other !== conversation);
    await this.store.remove(conversation.id);
    this.channel.postMessage(conversation.id);
    if (conversation === this.current) this.current = newConversation(conversation.settings);
    this.shown();
  }

  async take(conversations: Conversation[]): Promise<void> {
    for (const conversation of conversations) {
      await this.store.put(conversation);
      this.channel.postMessage(conversation.id);
    }
    this.all = [...conversations, ...this.all].sort((a, b) => b.updated - a.updated);
    const first = conversations[0];
    if (first !== undefined) this.current = first;
    this.shown();
  }

  setSettings(settings: Settings): void {
    this.current.settings = settings;
    if (this.current.messages.length) this.save(this.current);
  }

  /** What answers a conversation, by name; '' where there is one model. */
  modelOf({ settings }: Conversation): string {
    return this.models.includes(settings.model) ? settings.model : (this.models[0] ?? "");
  }

  runOf(conversation: Conversation): Run | undefined {
    return this.runs.get(conversation.id);
  }

  get slotsInUse(): Set<number> {
    return new Set([...this.runs.values()].map((run) => run.slot));
  }

  stop(): void {
    this.runs.get(this.current.id)?.stop();
  }

  // -- turns

  send(text: string): boolean {
    if (!this.canRun()) return false;
    add(this.current, this.current.leaf, { role: "user", content: text });
    return this.answer(this.current.leaf);
  }

  /** A user's turn in other words, beside the old one, and an answer to it. */
  editTurn(message: Message, text: string): void {
    if (!this.canRun()) return;
    add(this.current, message.parent, { role: "user", content: text });
    this.answer(this.current.leaf);
  }

  /** An answer as the user wants it, beside the old one. */
  editAnswer(message: Message, text: string): void {
    const { reasoning } = message;
    const kept = reasoning === undefined ? {} : { reasoning };
    add(this.current, message.parent, { role: "assistant", content: text, finish: "edited", ...kept });
    this.save(this.current);
    this.shown();
  }

  regenerate(message: Message): void {
    if (this.canRun()) this.answer(message.parent);
  }

  /** Lets an answer that was cut short go on. */
  goOn(message: Message): void {
    if (!this.canRun()) return;
    const run = this.runFor(message, message.id);
    if (run === null) return;
    delete message.finish;
    delete message.error;
    this.start(run);
  }

  giveResults(message: Message, results: string[]): void {
    if (!this.canRun()) return;
    openCalls(this.current, message).forEach((call, i) => {
      const fields = { role: "tool", callId: call.id, name: call.name } as const;
      add(this.current, this.current.leaf, { ...fields, content: results[i] ?? "" });
    });
    this.answer(this.current.leaf);
  }

  showVersion(message: Message, step: number): void {
    const all = versions(this.current, message);
    const other = all[all.indexOf(message) + step];
    if (other === undefined) return;
    goTo(this.current, other);
    this.save(this.current);
    this.shown();
  }

  private canRun(): boolean {
    if (this.runs.has(this.current.id)) return false;
    if (this.runs.size < MAX_RUNS) return true;
    this.listener.onProblem(`${MAX_RUNS} answers are being written already: wait for one, or stop it.`);
    return false;
  }

  private answer(parent: string | null): boolean {
    const conversation = this.current;
    const message = add(conversation, parent, { role: "assistant", content: "" });
    const run = this.runFor(message, parent);
    if (run === null) {
      conversation.messages.pop();
      conversation.leaf = parent;
      this.save(conversation);
      this.shown();
      return true; // the turn is there; what is wrong was told
    }
    this.start(run);
    return true;
  }

  private runFor(message: Message, parent: string | null): Run | null {
    const conversation = this.current;
    try {
      const body = requestOf(conversation, parent, this.modelOf(conversation));
      return new Run(conversation, message, body, () => this.onChange(conversation, message));
    } catch (error) {
      this.listener.onProblem((error as Error).message);
      return null;
    }
  }

  private start(run: Run): void {
    const { conversation } = run;
    if (!this.all.includes(conversation)) this.all.unshift(conversation);
    this.runs.set(conversation.id, run);
    this.save(conversation);
    this.shown();
    const timer = setInterval(() => {
      // Where that fails, the end of the answer tells.
      if (this.all.includes(conversation)) this.store.put(conversation).catch(() => undefined);
    }, SAVE_EVERY_MS);
    void run.read().finally(() => {
      clearInterval(timer);
      this.runs.delete(conversation.id);
      conversation.updated = Date.now();
      if (this.all.includes(conversation)) this.save(conversation);
      if (conversation === this.current) this.listener.onPath();
      this.listener.onEnd(run);
    });
  }

  private onChange(conversation: Conversation, message: Message): void {
    if (conversation === this.current) this.listener.onGrown(message);
  }

  private save(conversation: Conversation): void {
    if (!this.all.includes(conversation)) return;
    this.all.sort((a, b) => b.updated - a.updated);
    this.listener.onList();
    this.store.put(conversation).then(
      () => this.channel.postMessage(conversation.id),
      () => this.listener.onProblem("This browser does not keep the conversation: its storage is full."),
    );
  }

  /** Another tab has changed a conversation. */
  private async refresh(id: string): Promise<void> {
    if (this.runs.has(id)) return;
    const changed = await this.store.get(id);
    this.all = this.all.filter((conversation) => conversation.id !== id);
    if (changed !== undefined) this.all.push(changed);
    this.all.sort((a, b) => b.updated - a.updated);
    this.listener.onList();
    if (id !== this.current.id) return;
    this.current = changed ?? newConversation(this.current.settings);
    this.listener.onPath();
  }

  private shown(): void {
    this.listener.onList();
    this.listener.onPath();
  }

  get shownPath(): Message[] {
    return path(this.current);
  }
}
