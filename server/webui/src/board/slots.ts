// A card for each slot.

import { h, setText } from "../dom";
import { duration, short, whole } from "../format";
import { Facts, share } from "./parts";
import type { Slot } from "./told";

const WORDS = {
  idle: "idle",
  waiting: "waits for a shared prompt",
  prompt: "reads its prompt",
  generating: "generating",
};

export class SlotCards {
  readonly element = h("ul", { class: "slots" });
  private readonly cards: SlotCard[] = [];

  /** `own`: slots that compute answers of this page. */
  update(slots: Slot[], own: Set<number>, hasStates: boolean): void {
    for (const slot of slots) {
      let card = this.cards[slot.id];
      if (card === undefined) {
        card = new SlotCard(slot.id);
        this.cards[slot.id] = card;
        this.element.append(card.element);
      }
      card.update(slot, own.has(slot.id), hasStates);
    }
  }
}

class SlotCard {
  readonly element: HTMLLIElement;
  private readonly state = h("span", { class: "state" });
  private readonly rate = h("span", { class: "rate" });
  private readonly unit = h("span", { class: "unit" });
  private readonly prompt = h("span", { class: "done-prompt" });
  private readonly made = h("span", { class: "done-made" });
  private readonly rest = h("span", { class: "rest" });
  private readonly facts = new Facts();

  constructor(id: number) {
    this.element = h(
      "li",
      { class: "slot" },
      h("div", { class: "slot-head" }, h("h3", {}, `Slot ${id}`), this.state),
      h("p", { class: "slot-rate" }, this.rate, " ", this.unit),
      h("div", { class: "progress", "aria-hidden": "true" }, this.prompt, this.made, this.rest),
      this.facts.element,
    );
  }

  update(slot: Slot, isOwn: boolean, hasStates: boolean): void {
    this.element.dataset["state"] = slot.state;
    setText(this.state, WORDS[slot.state] + (isOwn ? ", for this page" : ""));
    this.showRate(slot);
    const inPrompt = Math.min(slot.n_computed, slot.n_prompt);
    this.prompt.style.flexGrow = String(inPrompt);
    this.made.style.flexGrow = String(slot.n_generated);
    this.rest.style.flexGrow = String(Math.max(1, slot.n_limit - inPrompt - slot.n_generated));
    const isIdle = slot.state === "idle";
    const { facts } = this;
    facts.set("Request", isIdle ? "–" : requestWords(slot));
    facts.set("Whose", isIdle ? "–" : whose(slot));
    facts.set("Prompt", isIdle ? "–" : promptWords(slot));
    facts.set("Answer", isIdle ? "–" : `${whole(slot.n_generated)} tokens, ${duration(slot.running_s * 1000)}`);
    facts.set("Cells", isIdle ? "–" : whole(slot.n_cells));
    if (hasStates) facts.set("State", slot.n_states ? `${slot.n_states} row` : "–");
    if (slot.n_drafted_total) facts.set("Drafts accepted", draftWords(slot));
  }

  private showRate(slot: Slot): void {
    if (slot.state === "generating") {
      setText(this.rate, slot.tokens_per_second ? short(slot.tokens_per_second) : "–");
      setText(this.unit, "tokens/s");
    } else if (slot.state === "prompt") {
      setText(this.rate, share(Math.min(slot.n_computed, slot.n_prompt), slot.n_prompt));
      setText(this.unit, "of the prompt");
    } else {
      setText(this.rate, "–");
      setText(this.unit, "");
    }
  }
}

function requestWords(slot: Slot): string {
  const choice = slot.choice ? `, choice ${slot.choice}` : "";
  const priority = slot.priority ? `, priority ${slot.priority}` : "";
  return `${slot.request}${choice}${priority}`;
}

/** Whose turn it is, as far as that is known: digests, never names. */
function whose(slot: Slot): string {
  const parts = [];
  if (slot.client) parts.push(`client ${slot.client}`);
  if (slot.session) parts.push(`session ${slot.session}`);
  return parts.join(", ") || "nobody named";
}

function promptWords(slot: Slot): string {
  const cached = slot.n_cached ? ` (${whole(slot.n_cached)} cached)` : " tokens";
  return `${whole(slot.n_prompt)}${cached}`;
}

function draftWords(slot: Slot): string {
  const all = `${share(slot.n_accepted_total, slot.n_drafted_total)}\u00a0in\u00a0all`;
  return slot.n_drafted ? `${share(slot.n_accepted, slot.n_drafted)} (${all})` : all;
}
