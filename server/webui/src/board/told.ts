// What GET /board tells.

export interface Slot {
  id: number;
  state: "idle" | "waiting" | "prompt" | "generating";
  request: number;
  choice: number;
  client: string;
  session: string;
  priority: number;
  n_prompt: number;
  n_cached: number;
  n_computed: number;
  n_generated: number;
  n_limit: number;
  n_cells: number;
  n_states: number;
  running_s: number;
  tokens_per_second: number;
  n_drafted: number;
  n_accepted: number;
  n_drafted_total: number;
  n_accepted_total: number;
}
export interface Sample {
  number: number;
  age_s: number;
  prompt_per_second: number;
  generated_per_second: number;
  n_cached: number;
  n_busy: number;
  n_queued: number;
  token_ms: number | null;
  first_ms: number | null;
}
export interface Told {
  time: number;
  server: { version: string; uptime_s: number; is_draining: boolean };
  model: {
    name: string;
    architecture: string;
    n_params: number;
    n_bytes: number;
    n_ctx: number;
    n_ctx_train: number;
  };
  slots: Slot[];
  queue: { n_waiting: number; n_max: number };
  cells: { n_total: number; n_free: number; n_cached: number };
  states: { n_rows: number; n_free: number; n_checkpoints: number };
  cache: { n_queried: number; n_reused: number; misses: Record<string, number> };
  drafts: { n_drafted: number; n_accepted: number };
  totals: {
    n_requests: number;
    n_prompt: number;
    n_generated: number;
    n_steps: number;
    n_parked: number;
    n_rejected: number;
    finished: Record<string, number>;
  };
  memory: {
    weights: number; cells: number; states: number; buffers: number; prefix_cache: number;
    total: number;
  } | null;
  resident_bytes: number | null;
  latency: {
    window_s: number;
    token_ms_p50: number | null;
    token_ms_p95: number | null;
    first_ms_p50: number | null;
    first_ms_p95: number | null;
  };
  samples: Sample[];
}
