// What the server does, second by second, while it is looked at.

import type { Chats } from "../chats/chats";
import { h, setText } from "../dom";
import { bytes, duration, parameters, short, whole } from "../format";
import { Fault, getJson } from "../server/api";
import { Bar, Facts, panel, share } from "./parts";
import { Plot } from "./plot";
import { SlotCards } from "./slots";
import type { Sample, Told } from "./told";

const EVERY_MS = 1000;
const KEPT_S = 305;

interface Kept extends Sample {
  at: number; // on this browser's clock, milliseconds
}

export class Board {
  private readonly tiles = new Map<string, [value: HTMLElement, more: HTMLElement]>();
  private readonly notice = h("p", { class: "problem", role: "status" });
  private readonly model = h("p", { class: "note" });
  private readonly tokens = new Plot("Tokens per second", "tokens/s", [
    { name: "generated" }, { name: "prompt" },
  ]);
  private readonly latency = new Plot(
    "Latency",
    "ms",
    [{ name: "between tokens" }, { name: "first token", isDotted: true }],
    true,
  );
  private readonly slots = new SlotCards();
  private readonly cells = new Bar();
  private readonly states = new Bar();
  private readonly statesPanel = panel("Recurrent states, rows", this.states.element);
  private readonly memory = new Bar(bytes);
  private readonly memoryFacts = new Facts();
  private readonly cache = new Facts();
  private readonly totals = new Facts();
  private samples: Kept[] = [];
  private started = 0;
  private asked = "";
  private timer = 0;
  private isAsking = false;

  constructor(
    root: HTMLElement,
    private readonly chats: Chats,
    private readonly query: () => string, // which model is looked at
  ) {
    const names = ["Generated now", "Prompt now", "Slots busy", "Waiting", "Between tokens", "First token"];
    const tiles = names.map((name) => this.tile(name));
    root.append(
      this.notice,
      this.model,
      h("dl", { class: "tiles" }, ...tiles),
      h("h2", { class: "visually-hidden" }, "Speed"),
      h("div", { class: "plots" }, this.tokens.element, this.latency.element),
      h("h2", {}, "Slots"),
      this.slots.element,
      h("h2", {}, "Memory and caches"),
      h(
        "div",
        { class: "panels" },
        panel("KV cells", this.cells.element),
        this.statesPanel,
        panel("Prefix cache", this.cache.element),
        panel("Memory", this.memory.element, this.memoryFacts.element),
        panel("Since the start", this.totals.element),
      ),
    );
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.timer) void this.ask();
    });
  }

  /** Asks the server from now on, as long as the page can be seen. */
  start(): void {
    if (this.timer) return;
    this.timer = setInterval(() => void this.ask(), EVERY_MS);
    void this.ask();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = 0;
  }

  private tile(name: string): HTMLElement {
    const value = h("span", {}, "–");
    const more = h("small");
    this.tiles.set(name, [value, more]);
    return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value, " ", more));
  }

  private async ask(): Promise<void> {
    if (this.isAsking || document.hidden) return;
    this.isAsking = true;
    try {
      const query = this.query();
      if (query !== this.asked) this.samples = [];
      this.asked = query;
      const since = this.samples.at(-1)?.number ?? 0;
      this.show(await getJson<Told>(`board?since=${since}${query}`));
      setText(this.notice, "");
    } catch (error) {
      setText(this.notice, (error as Error).message);
      if (error instanceof Fault && [401, 501].includes(error.status)) this.stop();
    } finally {
      this.isAsking = false;
    }
  }

  private show(told: Told): void {
    this.keep(told);
    this.showTiles(told);
    this.showModel(told);
    const now = performance.now();
    const age = ({ at }: Kept) => (now - at) / 1000;
    this.tokens.update(
      this.samples.map((s) => ({ age: age(s), values: [s.generated_per_second, s.prompt_per_second] })),
    );
    this.latency.update(this.samples.map((s) => ({ age: age(s), values: [s.token_ms, s.first_ms] })));
    this.slots.update(told.slots, this.chats.slotsInUse, told.states.n_rows > 0);
    this.showMemory(told);
    this.showCache(told);
    this.showTotals(told);
  }

  private keep(told: Told): void {
    const started = told.time - told.server.uptime_s;
    if (Math.abs(started - this.started) > 5) this.samples = []; // another process
    this.started = started;
    const now = performance.now();
    this.samples.push(...told.samples.map((s) => ({ ...s, at: now - s.age_s * 1000 })));
    this.samples = this.samples.filter(({ at }) => now - at < KEPT_S * 1000);
  }

  private showTiles(told: Told): void {
    const last = this.samples.at(-1);
    const { latency, slots } = told;
    const nBusy = slots.filter(({ state }) => state !== "idle").length;
    const set = (name: string, [value, more]: [string, string]) => {
      const [valueElement, moreElement] = this.tiles.get(name) ?? [];
      if (valueElement !== undefined) setText(valueElement, value);
      if (moreElement !== undefined) setText(moreElement, more);
    };
    const rate = (n: number | undefined): [string, string] =>
      n === undefined ? ["–", ""] : [short(n), "tokens/s"];
    set("Generated now", rate(last?.generated_per_second));
    set("Prompt now", rate(last?.prompt_per_second));
    set("Slots busy", [String(nBusy), `of ${slots.length}`]);
    set("Waiting", [String(told.queue.n_waiting), `of at most ${told.queue.n_max}`]);
    set("Between tokens", spread(latency.token_ms_p50, latency.token_ms_p95));
    set("First token", spread(latency.first_ms_p50, latency.first_ms_p95));
  }

  private showModel(told: Told): void {
    const { model, server } = told;
    const parts = [model.name];
    if (model.architecture) parts.push(model.architecture);
    if (model.n_params) parts.push(`${parameters(model.n_params)} parameters`);
    parts.push(`${whole(model.n_ctx)} tokens of context`);
    parts.push(`slotmux ${server.version}, up for ${duration(server.uptime_s * 1000)}`);
    if (server.is_draining) parts.push("takes no more requests: it is being stopped");
    setText(this.model, parts.join(" · "));
  }

  private showMemory(told: Told): void {
    const { cells, states, memory } = told;
    this.cells.update([
      { name: "in use", n: cells.n_total - cells.n_free - cells.n_cached },
      { name: "reusable prefixes", n: cells.n_cached },
      { name: "free", n: cells.n_free, isFree: true },
    ]);
    this.statesPanel.hidden = states.n_rows === 0;
    this.states.update([
      { name: "running", n: states.n_rows - states.n_free - states.n_checkpoints },
      { name: "checkpoints", n: states.n_checkpoints },
      { name: "free", n: states.n_free, isFree: true },
    ]);
    if (memory !== null) {
      this.memory.update([
        { name: "weights", n: memory.weights },
        { name: "KV cells", n: memory.cells },
        { name: "states", n: memory.states },
        { name: "buffers", n: memory.buffers },
        { name: "kept prefixes", n: memory.prefix_cache },
      ]);
      this.memoryFacts.set("Planned in all", bytes(memory.total));
    }
    if (told.resident_bytes !== null) this.memoryFacts.set("Resident now", bytes(told.resident_bytes));
  }

  private showCache(told: Told): void {
    const { cache, drafts } = told;
    this.cache.set("Prompt tokens looked up", whole(cache.n_queried));
    const reused = `${whole(cache.n_reused)}, ${share(cache.n_reused, cache.n_queried)}`;
    this.cache.set("Reused", cache.n_queried ? reused : "–");
    const causes = {
      cold: "Prompts unknown before", diverged: "Prompts that went on otherwise",
      new: "Prompts that went on from all that is known",
      no_state: "Prompts without a kept state", state_evicted: "States given up",
      evicted: "Cells given up", off: "Prompts kept out",
    };
    for (const [cause, name] of Object.entries(causes)) {
      if (cache.misses[cause]) this.cache.set(name, whole(cache.misses[cause] ?? 0));
    }
    if (drafts.n_drafted) {
      const rate = share(drafts.n_accepted, drafts.n_drafted);
      this.cache.set("Drafts accepted", `${rate} of ${whole(drafts.n_drafted)}`);
    }
  }

  private showTotals(told: Told): void {
    const { totals } = told;
    this.totals.set("Requests", whole(totals.n_requests));
    this.totals.set("Prompt tokens computed", whole(totals.n_prompt));
    this.totals.set("Tokens generated", whole(totals.n_generated));
    this.totals.set("Forwards", whole(totals.n_steps));
    this.totals.set("Refused", whole(totals.n_rejected));
    this.totals.set("Ended by clients", whole(totals.finished["abort"] ?? 0));
    if (totals.n_parked) this.totals.set("Parked for want of memory", whole(totals.n_parked));
  }
}

/** Median and 95th percentile of the last minute. */
function spread(p50: number | null, p95: number | null): [string, string] {
  if (p50 === null || p95 === null) return ["–", ""];
  return [duration(p50), `95 %: ${duration(p95)}`];
}
