// Questions that want an answer before anything else goes on.

import { byId, h } from "./dom";

/** Whether the user agrees; `verb` is what the button says. */
export function confirm(title: string, text: string, verb: string): Promise<boolean> {
  const go = h("button", { class: "button danger", value: "yes" }, verb);
  const dialog = open(title, [h("p", {}, text)], go);
  return closed(dialog).then((value) => value === "yes");
}

/** A line of text, or null. */
export async function askText(title: string, label: string, value: string): Promise<string | null> {
  const input = h("input", { id: "ask-text", type: "text", required: true, maxlength: 200, autocomplete: "off" });
  input.value = value;
  const go = h("button", { class: "button primary", value: "yes" }, "Save");
  const dialog = open(title, [h("label", { for: "ask-text" }, label), input], go);
  input.select();
  return (await closed(dialog)) === "yes" ? input.value.trim() : null;
}

function open(title: string, content: Node[], go: HTMLButtonElement): HTMLDialogElement {
  const cancel = h("button", { type: "button", class: "button" }, "Cancel");
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-labelledby": "dialog-title" },
    h(
      "form",
      { method: "dialog" },
      h("h2", { id: "dialog-title" }, title),
      ...content,
      h("div", { class: "buttons" }, cancel, go),
    ),
  );
  cancel.addEventListener("click", () => dialog.close());
  byId("dialogs").append(dialog);
  dialog.showModal();
  return dialog;
}

function closed(dialog: HTMLDialogElement): Promise<string> {
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue);
    });
  });
}
