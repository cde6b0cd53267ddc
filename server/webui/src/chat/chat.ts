// The shown conversation: its turns, kept up to date once a frame at most.

import { announce } from "../announce";
import type { Chats } from "../chats/chats";
import { titleOf, type Message } from "../chats/conversation";
import type { Run } from "../chats/run";
import { byId, h, setText } from "../dom";
import { whole } from "../format";
import type { Composer } from "./composer";
import { MessageView, type Actions } from "./message";

const STARTERS = [
  "Why is the sky blue?",
  "Write a haiku about a quiet server.",
  "Explain how a hash table works, with a short example in Python.",
];
const NEAR_PIXELS = 60;

export class ChatView {
  private readonly list = byId("messages");
  private readonly scroller = byId("scroller");
  private readonly toEnd = byId<HTMLButtonElement>("to-end");
  private views = new Map<string, MessageView>();
  private shownId = "";
  private isSticky = true;
  private grown = new Set<Message>();
  private frame = 0;
  nCtx = 0;

  constructor(
    private readonly chats: Chats,
    private readonly composer: Composer,
  ) {
    this.scroller.addEventListener("scroll", () => this.onScroll(), { passive: true });
    this.toEnd.addEventListener("click", () => this.scrollToEnd());
  }

  /** The whole path. */
  show(): void {
    const { current } = this.chats;
    const isOther = current.id !== this.shownId;
    if (isOther) {
      this.shownId = current.id;
      this.views = new Map();
      this.isSticky = true;
    }
    const run = this.chats.runOf(current);
    const path = this.chats.shownPath;
    const elements = path.map((message) => {
      let view = this.views.get(message.id);
      if (view === undefined) {
        view = new MessageView(message, this.actions);
        this.views.set(message.id, view);
      }
      view.update(current, run);
      return view.element;
    });
    this.place(elements);
    this.list.classList.toggle("busy", run !== undefined);
    byId("empty").hidden = path.length > 0;
    setText(byId("title"), current.title);
    this.composer.showFor(current.id);
    this.composer.setRunning(run !== undefined);
    this.showContext(path);
    if (this.isSticky) this.scrollToEnd();
  }

  /** A message has grown: it is shown with the next frame. */
  onGrown(message: Message): void {
    this.grown.add(message);
    this.frame ||= requestAnimationFrame(() => this.flush());
  }

  onEnd(run: Run): void {
    if (run.conversation !== this.chats.current) return;
    const { error, content } = run.message;
    const calls = run.message.calls?.map((call) => `The model calls ${call.name}.`) ?? [];
    announce(error ?? ["Answer:", content, ...calls].join(" "));
  }

  /** Puts starters into the empty conversation. */
  offerStarters(): void {
    const buttons = STARTERS.map((text) => {
      const button = h("button", { type: "button", class: "starter" }, text);
      button.addEventListener("click", () => {
        this.composer.write(text);
        this.composer.focus();
      });
      return h("li", {}, button);
    });
    byId("starters").replaceChildren(...buttons);
  }

  private readonly actions: Actions = {
    onEdit: (message, text) => {
      if (message.role === "user") this.chats.editTurn(message, text);
      else this.chats.editAnswer(message, text);
    },
    onRegenerate: (message) => {
      this.chats.regenerate(message);
      this.composer.focus();
    },
    onGoOn: (message) => {
      this.chats.goOn(message);
      this.composer.focus();
    },
    onVersion: (message, step) => this.chats.showVersion(message, step),
    onResults: (message, results) => {
      this.chats.giveResults(message, results);
      this.composer.focus();
    },
    onDoneEditing: () => this.composer.focus(),
  };

  /** Elements in this order, those that stand right left alone: focus and selection stay. */
  private place(elements: HTMLElement[]): void {
    elements.forEach((element, i) => {
      const there = this.list.children[i];
      if (there !== element) this.list.insertBefore(element, there ?? null);
    });
    while (this.list.children.length > elements.length) this.list.lastElementChild?.remove();
  }

  private flush(): void {
    this.frame = 0;
    const run = this.chats.runOf(this.chats.current);
    for (const message of this.grown) {
      if (this.views.get(message.id)?.grow(run) ?? true) this.grown.delete(message);
    }
    if (this.grown.size) this.frame = requestAnimationFrame(() => this.flush());
    if (this.isSticky) this.scrollToEnd();
  }

  private showContext(path: Message[]): void {
    const { stats } = path.findLast((message) => message.stats?.nPrompt) ?? {};
    if (stats === undefined || !this.nCtx) {
      this.composer.setNote("");
      return;
    }
    const n = whole(stats.nPrompt + stats.nGenerated);
    this.composer.setNote(`${n} of ${whole(this.nCtx)} tokens of context`);
  }

  private onScroll(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.isSticky = scrollHeight - scrollTop - clientHeight < NEAR_PIXELS;
    this.toEnd.hidden = this.isSticky;
  }

  private scrollToEnd(): void {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.toEnd.hidden = true;
  }
}

export function documentTitle(title: string): string {
  return `${titleOf(title)} – slotmux`;
}
