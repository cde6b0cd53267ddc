// Which model answers, where a server has several.

import type { Chats } from "../chats/chats";
import { byId, h, setText } from "../dom";
import { whole } from "../format";
import { Fault, getJson } from "../server/api";

interface Entry {
  id: string;
  status?: { value: string }; // of a server that loads models as they are asked for
}
interface Props {
  model_alias: string;
  total_slots?: number;
  default_generation_settings: { n_ctx: number; params: Record<string, unknown> };
}

const RETRY_MS = 1000;

export class Models {
  defaults: Record<string, unknown> = {}; // of sampling, as the server told
  nCtx = 0;
  private readonly choice = byId<HTMLSelectElement>("models");
  private readonly name = byId("model");
  private readonly about = byId("about");
  private shown = "";
  private isKnown = false; // which models there are

  /** `onKnown`: more is known of the model that answers. */
  constructor(
    private readonly chats: Chats,
    private readonly onKnown: () => void,
  ) {
    this.choice.addEventListener("change", () => {
      chats.setSettings({ ...chats.current.settings, model: this.choice.value });
      this.show();
    });
  }

  /** For addresses: which model is meant, and that it shall not be loaded for that. */
  get query(): string {
    const model = this.chats.modelOf(this.chats.current);
    return model ? `&model=${encodeURIComponent(model)}&autoload=false` : "";
  }

  /** Waits until there is a model, or several. */
  async greet(): Promise<void> {
    for (;;) {
      try {
        const { data } = await getJson<{ data: Entry[] }>("v1/models");
        this.take(data);
        return;
      } catch (error) {
        const isLoading = error instanceof Fault && [0, 503].includes(error.status);
        setText(this.name, isLoading ? `${error.message.replace(/\.$/, "")}…` : "slotmux");
        if (!isLoading) return;
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** The model of the shown conversation. */
  show(): void {
    if (!this.isKnown) return;
    const model = this.chats.modelOf(this.chats.current) || (this.name.textContent ?? "");
    if (model === this.shown) return;
    this.shown = model;
    this.choice.value = model;
    void this.ask();
  }

  private take(data: Entry[]): void {
    const isOneOfMany = data.some(({ status }) => status !== undefined);
    setText(this.name, data[0]?.id ?? "slotmux");
    if (isOneOfMany) {
      // What is loaded answers at once: it comes first.
      const isLoaded = ({ status }: Entry) => status?.value === "loaded";
      const sorted = [...data].sort((a, b) => Number(isLoaded(b)) - Number(isLoaded(a)));
      this.chats.models = sorted.map(({ id }) => id);
      const words = (entry: Entry) => (isLoaded(entry) ? entry.id : `${entry.id} (not loaded)`);
      this.choice.replaceChildren(...sorted.map((e) => h("option", { value: e.id }, words(e))));
    }
    this.name.hidden = isOneOfMany;
    this.choice.hidden = !isOneOfMany;
    this.isKnown = true;
    this.show();
  }

  /** What /props says; it may be switched off, or the model not loaded: the chat works without. */
  private async ask(): Promise<void> {
    setText(this.about, "");
    this.defaults = {};
    this.nCtx = 0;
    try {
      const props = await getJson<Props>(`props${this.query.replace("&", "?")}`);
      const { n_ctx: nCtx, params } = props.default_generation_settings;
      this.defaults = params;
      this.nCtx = nCtx;
      const slots = props.total_slots;
      if (slots) setText(this.about, `${whole(slots)} slots, up to ${whole(nCtx)} tokens each`);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
    }
    this.onKnown();
  }
}
