// One turn as it is shown: what was said, thought and called, and what can be done with it.

import { openCalls, versions, type Conversation, type Message, type ToolCall } from "../chats/conversation";
import type { Run } from "../chats/run";
import { copyText, h, icon, iconButton, setText } from "../dom";
import { duration, percent, short, whole } from "../format";
import { Markdown } from "../text/render";

export interface Actions {
  onEdit(message: Message, text: string): void;
  onRegenerate(message: Message): void;
  onGoOn(message: Message): void;
  onVersion(message: Message, step: number): void;
  onResults(message: Message, results: string[]): void;
  onDoneEditing(): void;
}

export class MessageView {
  readonly element: HTMLLIElement;
  private readonly body = h("div", { class: "body" });
  private readonly foot = h("div", { class: "foot" });
  private readonly text = new Markdown();
  private readonly thought = new Markdown();
  private readonly thinking: HTMLDetailsElement;
  private readonly thinkingLabel = h("span");
  private readonly calls = h("div", { class: "calls" });
  private readonly waiting = h("p", { class: "waiting", "aria-hidden": "true" }, "…");
  private footShown = "";
  private callsShown = "";

  constructor(
    private readonly message: Message,
    private readonly actions: Actions,
  ) {
    const who = { user: "You", assistant: "Assistant", tool: `Result of ${message.name ?? "a tool"}` };
    this.thinking = h(
      "details",
      { class: "thinking" },
      h("summary", {}, this.thinkingLabel),
      this.thought.element,
    );
    this.element = h(
      "li",
      { class: `message ${message.role}`, "data-id": message.id },
      h("h2", { class: message.role === "tool" ? "who" : "visually-hidden" }, who[message.role]),
      this.body,
      this.foot,
    );
    this.showBody();
  }

  private showBody(): void {
    const { message } = this;
    if (message.role === "assistant") {
      this.body.replaceChildren(this.thinking, this.text.element, this.calls, this.waiting);
    } else if (message.role === "tool") {
      const pre = { tabindex: 0, role: "group", "aria-label": "Result" };
      this.body.replaceChildren(h("pre", pre, message.content));
    } else {
      this.body.replaceChildren(h("p", { class: "said" }, message.content));
    }
  }

  /** Everything of it, after something else than its text has changed. */
  update(conversation: Conversation, run: Run | undefined): void {
    const isRunning = run?.message === this.message;
    const isLast = conversation.leaf === this.message.id;
    this.element.classList.toggle("last", isLast);
    this.element.setAttribute("aria-busy", String(isRunning));
    this.grow(isRunning ? run : undefined);
    if (this.message.role === "assistant") {
      const open = isRunning || run !== undefined ? [] : openCalls(conversation, this.message);
      this.showCalls(open);
    }
    this.showFoot(conversation, isRunning);
  }

  /** The text alone: what happens many times a second. False: some of it is still to be shown. */
  grow(run: Run | undefined): boolean {
    const { message } = this;
    if (message.role !== "assistant") return true;
    const isDone = run === undefined;
    let isShown = this.text.update(message.content, isDone);
    this.thinking.hidden = !message.reasoning;
    if (message.reasoning) {
      const isThought = this.thought.update(message.reasoning, isDone || !run.isThinking);
      isShown = isThought && isShown;
      setText(this.thinkingLabel, this.thinkingWords(run));
      this.thinking.classList.toggle("now", run?.isThinking ?? false);
    }
    if (run !== undefined) {
      this.showCalls([]);
      const rate = run.perSecond;
      if (rate) setText(this.foot, `${short(rate)} tokens/s`);
    }
    this.waiting.hidden = isDone || Boolean(message.content || message.reasoning || message.calls);
    return isShown;
  }

  private thinkingWords(run: Run | undefined): string {
    if (run?.isThinking) return "Thinking…";
    const ms = this.message.stats?.thinkMs;
    return ms === undefined ? "Thought" : `Thought for ${duration(ms)}`;
  }

  private showCalls(open: ToolCall[]): void {
    const { calls } = this.message;
    const key = JSON.stringify([calls, open.length]);
    if (key === this.callsShown) return;
    this.callsShown = key;
    this.calls.replaceChildren(...(calls ?? []).map(callCard));
    if (open.length) this.calls.append(this.resultForm(open));
  }

  /** The user is the tool: what they write goes back to the model. */
  private resultForm(open: ToolCall[]): HTMLFormElement {
    const areas = open.map((call, i) =>
      h("textarea", { id: `result-${i}`, rows: 2, spellcheck: "false", "data-call": call.id }),
    );
    const fields = open.flatMap((call, i) => [
      h("label", { for: `result-${i}` }, `Result of ${call.name}`),
      areas[i] as HTMLTextAreaElement,
    ]);
    const form = h(
      "form",
      { class: "results" },
      ...fields,
      h("div", { class: "buttons" }, h("button", { class: "button primary" }, "Send results")),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.actions.onResults(this.message, areas.map((area) => area.value));
    });
    return form;
  }

  private showFoot(conversation: Conversation, isRunning: boolean): void {
    const { message } = this;
    const all = versions(conversation, message);
    const at = all.indexOf(message);
    const isLast = conversation.leaf === message.id;
    const key = JSON.stringify([all.length, at, isRunning, isLast, message.finish, message.stats]);
    if (key === this.footShown) return;
    this.footShown = key;
    this.foot.replaceChildren();
    if (isRunning || message.role === "tool") return;
    if (message.role === "assistant") this.foot.append(...this.endings());
    const buttons = h("div", { class: "actions", role: "group", "aria-label": "Actions" });
    if (all.length > 1) buttons.append(this.versionSwitch(at, all.length));
    buttons.append(...this.buttons(isLast));
    this.foot.append(buttons);
    if (message.stats?.nGenerated) this.foot.append(statsLine(message));
  }

  /** Why an answer ended, where that is worth a word. */
  private endings(): Node[] {
    const { error, finish } = this.message;
    if (error !== undefined) return [h("p", { class: "problem", role: "alert" }, error)];
    const words: Record<string, string> = {
      length: "Cut off: the most tokens of an answer, or the context, were reached.",
      stopped: "Stopped.",
      edited: "Edited by you.",
    };
    const word = finish === undefined ? "Interrupted." : words[finish];
    return word ? [h("p", { class: "note" }, word)] : [];
  }

  private versionSwitch(at: number, n: number): HTMLElement {
    const to = (step: number) => () => this.actions.onVersion(this.message, step);
    return h(
      "span",
      { class: "versions needs-rest", role: "group", "aria-label": "Versions" },
      iconButton("left", "Earlier version", to(-1), { disabled: at === 0 }),
      h("span", {}, h("span", { class: "visually-hidden" }, "Version "), `${at + 1}/${n}`),
      iconButton("right", "Later version", to(1), { disabled: at === n - 1 }),
    );
  }

  /** Those that change the conversation are hidden while an answer is being written. */
  private buttons(isLast: boolean): HTMLElement[] {
    const { message, actions } = this;
    const atRest = { class: "icon-button needs-rest" };
    const buttons = [
      iconButton("copy", "Copy", (event) => void this.copy(event)),
      iconButton("edit", "Edit", () => this.edit(), atRest),
    ];
    if (message.role !== "assistant") return buttons;
    buttons.push(iconButton("again", "Regenerate", () => actions.onRegenerate(message), atRest));
    const isCut = message.finish === undefined || ["length", "stopped", "edited"].includes(message.finish);
    if (isCut && message.content && isLast) {
      buttons.push(iconButton("more", "Continue", () => actions.onGoOn(message), atRest));
    }
    return buttons;
  }

  private async copy(event: MouseEvent): Promise<void> {
    const button = event.currentTarget as HTMLButtonElement;
    if (!(await copyText(this.message.content))) return;
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", "Copy");
    }, 1500);
  }

  private edit(): void {
    const { message } = this;
    const area = h("textarea", { class: "edit", "aria-label": "Edit the turn", rows: 1 });
    area.value = message.content;
    const cancel = h("button", { type: "button", class: "button" }, "Cancel");
    const verb = message.role === "user" ? "Send" : "Save";
    const save = h("button", { class: "button primary" }, verb);
    const form = h("form", { class: "editing" }, area, h("div", { class: "buttons" }, cancel, save));
    const close = () => {
      this.element.classList.remove("is-edited");
      form.remove();
      this.actions.onDoneEditing();
    };
    cancel.addEventListener("click", close);
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      close();
      this.actions.onEdit(message, area.value);
    });
    this.element.classList.add("is-edited");
    this.element.append(form);
    area.focus();
    area.setSelectionRange(area.value.length, area.value.length);
  }
}

function callCard(call: ToolCall): HTMLElement {
  let text = call.arguments;
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // still being written, or no JSON: as it is
  }
  const pre = { tabindex: 0, role: "group", "aria-label": `Arguments of ${call.name}` };
  return h(
    "div",
    { class: "call" },
    h("div", { class: "call-head" }, icon("tool"), h("span", {}, "Calls "), h("code", {}, call.name)),
    h("pre", pre, text),
  );
}

function statsLine(message: Message): HTMLElement {
  const { stats } = message;
  if (stats === undefined) return h("p");
  const parts = [`${short(stats.perSecond)} tokens/s`, `${whole(stats.nGenerated)} tokens`];
  if (stats.nPrompt) {
    const cached = stats.nCached ? ` (${whole(stats.nCached)} from cache)` : "";
    parts.push(`prompt ${whole(stats.nPrompt)}${cached}`);
  }
  if (stats.firstMs) parts.push(`first after ${duration(stats.firstMs)}`);
  if (stats.draftRate !== undefined) parts.push(`${percent(stats.draftRate)} of drafts accepted`);
  return h("p", { class: "stats" }, parts.join(" · "));
}
