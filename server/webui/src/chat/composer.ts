// Where turns are written.

import { byId, h, icon } from "../dom";

const MOST_PIXELS = 240;

export class Composer {
  private readonly area = byId<HTMLTextAreaElement>("prompt");
  private readonly button = byId<HTMLButtonElement>("send");
  private readonly note = byId("composer-note");
  private isRunning = false;
  private drafts = new Map<string, string>();
  private id = "";

  /** `onSend`: whether the text was taken. */
  constructor(onSend: (text: string) => boolean, onStop: () => void) {
    const form = byId<HTMLFormElement>("composer");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.isRunning) onStop();
      else if (this.area.value.trim() && onSend(this.area.value)) this.write("");
    });
    this.area.addEventListener("input", () => this.fit());
    this.area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing && !isTouch()) {
        event.preventDefault();
        if (!this.isRunning) form.requestSubmit();
      }
      if (event.key === "Escape" && this.isRunning) onStop();
    });
    this.setRunning(false);
  }

  /** A text for the user to send or change. */
  write(text: string): void {
    this.area.value = text;
    this.fit();
  }

  focus(): void {
    this.area.focus();
  }

  /** What was begun in one conversation waits there. */
  showFor(id: string): void {
    if (id === this.id) return;
    const isFirst = this.id === ""; // what was written before the script came stays
    if (!isFirst) this.drafts.set(this.id, this.area.value);
    this.id = id;
    if (!isFirst) this.write(this.drafts.get(id) ?? "");
  }

  setRunning(isRunning: boolean): void {
    this.isRunning = isRunning;
    const label = isRunning ? "Stop" : "Send";
    this.button.replaceChildren(icon(isRunning ? "stop" : "send"), h("span", { class: "visually-hidden" }, label));
    this.button.title = isRunning ? "Stop (Esc)" : "Send (Enter)";
    this.button.classList.toggle("is-stop", isRunning);
    this.fit();
  }

  setNote(text: string): void {
    this.note.textContent = text;
  }

  private fit(): void {
    this.button.disabled = !this.isRunning && !this.area.value.trim();
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, MOST_PIXELS)}px`;
  }
}

function isTouch(): boolean {
  return matchMedia("(pointer: coarse)").matches;
}
