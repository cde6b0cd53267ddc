// The settings of a conversation. What is left empty is the server's to decide.

import { isObject, parsed, type Settings } from "../chats/conversation";
import { byId, h } from "../dom";

interface NumberField {
  name: string;
  label: string;
  min: number;
  max?: number;
  step: number | "any";
  help?: string;
}

const NUMBERS: NumberField[] = [
  { name: "temperature", label: "Temperature", min: 0, max: 5, step: "any", help: "0: greedy" },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: "any" },
  { name: "top_k", label: "Top K", min: 0, step: 1, help: "0: all" },
  { name: "min_p", label: "Min P", min: 0, max: 1, step: "any" },
  { name: "repeat_penalty", label: "Repeat penalty", min: 0, max: 10, step: "any" },
  { name: "presence_penalty", label: "Presence penalty", min: -2, max: 2, step: "any" },
  { name: "frequency_penalty", label: "Frequency penalty", min: -2, max: 2, step: "any" },
  { name: "max_tokens", label: "Most tokens", min: 1, step: 1, help: "of an answer" },
  { name: "seed", label: "Seed", min: 0, step: 1 },
];

/** Opens the dialogue; `onChange` gets the settings whenever they change and are right. */
export function openSettings(
  settings: Settings,
  defaults: Record<string, unknown>,
  onChange: (settings: Settings) => void,
): void {
  const form = new SettingsForm(structuredClone(settings), defaults, onChange);
  const close = h("button", { class: "button primary" }, "Done");
  const dialog = h(
    "dialog",
    { class: "dialog wide", "aria-labelledby": "settings-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "settings-title" }, "Settings of this chat"),
      h("p", { class: "note" }, "New chats begin with them. What is empty is left to the server."),
      form.element,
      h("div", { class: "buttons" }, close),
    ),
  );
  dialog.addEventListener("close", () => dialog.remove());
  byId("dialogs").append(dialog);
  dialog.showModal();
}

class SettingsForm {
  readonly element: HTMLElement;

  constructor(
    private readonly settings: Settings,
    private readonly defaults: Record<string, unknown>,
    private readonly onChange: (settings: Settings) => void,
  ) {
    const onOff = { "": "Default", on: "On", off: "Off" };
    const efforts = { "": "Default", low: "Low", medium: "Medium", high: "High" };
    this.element = h(
      "div",
      { class: "settings" },
      this.text("system", "System prompt", 4),
      h("fieldset", {}, h("legend", {}, "Sampling"), h("div", { class: "grid" }, ...NUMBERS.map((f) => this.number(f)))),
      h(
        "fieldset",
        {},
        h("legend", {}, "Thinking"),
        h("div", { class: "grid" }, this.choice("thinking", "Thinking", onOff), this.choice("effort", "Effort", efforts)),
      ),
      this.text("stop", "Stop texts, one a line", 2),
      this.json("tools", "Tools, a JSON array as the API takes it", 5, Array.isArray, TOOLS_EXAMPLE),
      this.json("extra", "Further parameters, a JSON object", 3, isObject, '{"dry_multiplier": 0.8}'),
    );
  }

  private text(name: "system" | "stop", label: string, rows: number): HTMLElement {
    const area = h("textarea", { id: `set-${name}`, rows });
    area.value = this.settings[name];
    area.addEventListener("input", () => {
      this.settings[name] = area.value;
      this.changed();
    });
    return h("div", { class: "field" }, h("label", { for: `set-${name}` }, label), area);
  }

  private json(
    name: "tools" | "extra",
    label: string,
    rows: number,
    isRight: (value: unknown) => boolean,
    example: string,
  ): HTMLElement {
    const id = `set-${name}`;
    const problem = h("p", { id: `${id}-problem`, class: "problem", role: "status" });
    const area = h("textarea", { id, rows, spellcheck: "false", class: "mono", placeholder: example });
    area.value = this.settings[name];
    const check = () => {
      let words = "";
      try {
        parsed(area.value, label.split(",")[0]?.toLowerCase() ?? name, isRight);
      } catch (error) {
        words = (error as Error).message;
      }
      problem.textContent = words;
      area.setAttribute("aria-invalid", String(Boolean(words)));
      area.setAttribute("aria-describedby", problem.id);
    };
    area.addEventListener("input", () => {
      this.settings[name] = area.value;
      check();
      this.changed();
    });
    check();
    return h("div", { class: "field" }, h("label", { for: id }, label), area, problem);
  }

  private number(field: NumberField): HTMLElement {
    const { name, label, help, ...bounds } = field;
    const id = `set-${name}`;
    const usual = this.defaults[name];
    const placeholder = typeof usual === "number" && usual >= bounds.min ? String(round(usual)) : "";
    const input = h("input", { id, type: "number", placeholder, inputmode: "decimal", ...bounds });
    const { numbers } = this.settings;
    if (numbers[name] !== undefined) input.value = String(numbers[name]);
    input.addEventListener("input", () => {
      if (!input.validity.valid) return;
      if (input.value === "") delete numbers[name];
      else numbers[name] = input.valueAsNumber;
      this.changed();
    });
    const words = help === undefined ? label : `${label} `;
    const small = help !== undefined && h("small", {}, help);
    return h("div", { class: "field" }, h("label", { for: id }, words, small), input);
  }

  private choice<N extends "thinking" | "effort">(
    name: N,
    label: string,
    options: Record<Settings[N], string>,
  ): HTMLElement {
    const id = `set-${name}`;
    const select = h("select", { id });
    for (const [value, text] of Object.entries<string>(options)) {
      select.append(h("option", { value, selected: value === this.settings[name] }, text));
    }
    select.addEventListener("change", () => {
      this.settings[name] = select.value as Settings[N];
      this.changed();
    });
    return h("div", { class: "field" }, h("label", { for: id }, label), select);
  }

  private changed(): void {
    this.onChange(structuredClone(this.settings));
  }
}

const TOOLS_EXAMPLE = `[{"type": "function", "function": {"name": "get_weather",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]`;

/** Without the noise of single precision. */
function round(n: number): number {
  return Number(n.toPrecision(6));
}
