// The API key: asked for when the server wants one, kept for this tab unless the user says more.

import { byId, h } from "../dom";

const NAME = "slotmux.key";
let asking: Promise<boolean> | null = null;

export function currentKey(): string {
  return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME) ?? "";
}

export function forgetKey(): void {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
}

/** Opens the dialogue, once for all who ask meanwhile; whether a key was given. */
export function askForKey(isWrong: boolean): Promise<boolean> {
  asking ??= ask(isWrong).finally(() => (asking = null));
  return asking;
}

function ask(isWrong: boolean): Promise<boolean> {
  const input = h("input", {
    type: "password",
    id: "key-input",
    name: "key",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    ...(isWrong ? { "aria-invalid": "true", "aria-describedby": "key-wrong" } : {}),
  });
  const keep = h("input", { type: "checkbox", id: "key-keep" });
  const cancel = h("button", { type: "button", class: "button" }, "Cancel");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "key-title" }, "API key"),
    h("p", {}, "This server answers only to those who have a key."),
    h("label", { for: "key-input" }, "Key"),
    input,
    isWrong && h("p", { id: "key-wrong", class: "problem" }, "The server does not know this key."),
    h(
      "label",
      { class: "check" },
      keep,
      h("span", {}, "Remember it on this device", h("small", {}, "Otherwise until this tab is closed.")),
    ),
    h("div", { class: "buttons" }, cancel, h("button", { class: "button primary" }, "Use key")),
  );
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "key-title" }, form);
  byId("dialogs").append(dialog);
  cancel.addEventListener("click", () => dialog.close());
  let isGiven = false;
  form.addEventListener("submit", () => {
    forgetKey();
    (keep.checked ? localStorage : sessionStorage).setItem(NAME, input.value.trim());
    isGiven = true;
  });
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(isGiven);
    });
  });
}
