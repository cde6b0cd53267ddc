// The list of conversations.

import type { Chats } from "../chats/chats";
import type { Conversation } from "../chats/conversation";
import { byId, h } from "../dom";

const DAY_MS = 86_400_000;

export class Sidebar {
  private readonly list = byId("conversations");
  private shown = "";

  constructor(private readonly chats: Chats) {}

  show(isChatShown: boolean): void {
    const { all, current } = this.chats;
    const key = JSON.stringify([
      isChatShown && current.id,
      all.map((c) => [c.id, c.title, this.chats.runOf(c) !== undefined, groupOf(c)]),
    ]);
    if (key === this.shown) return;
    this.shown = key;
    const groups = Map.groupBy(all, groupOf);
    const parts = [...groups].map(([name, conversations], i) =>
      h(
        "section",
        { "aria-labelledby": `group-${i}` },
        h("h3", { id: `group-${i}` }, name),
        h("ul", {}, ...conversations.map((c) => this.line(c, isChatShown && c === current))),
      ),
    );
    this.list.replaceChildren(...parts);
  }

  private line(conversation: Conversation, isCurrent: boolean): HTMLLIElement {
    const isRunning = this.chats.runOf(conversation) !== undefined;
    return h(
      "li",
      {},
      h(
        "a",
        { href: `#chat/${conversation.id}`, "aria-current": isCurrent && "page", title: conversation.title },
        h("span", { class: "line-title" }, conversation.title),
        isRunning && h("span", { class: "dot", title: "An answer is being written" }),
        isRunning && h("span", { class: "visually-hidden" }, " (an answer is being written)"),
      ),
    );
  }
}

function groupOf(conversation: Conversation): string {
  const today = new Date().setHours(0, 0, 0, 0);
  if (conversation.updated >= today) return "Today";
  return conversation.updated >= today - 6 * DAY_MS ? "Last seven days" : "Earlier";
}
