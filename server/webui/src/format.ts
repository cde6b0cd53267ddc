// Numbers and times as people read them.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

export const whole = (n: number): string => WHOLE.format(n);
/** Three digits, or all before the point. */
export const short = (n: number): string => (Math.abs(n) >= 100 ? WHOLE.format(n) : SHORT.format(n));
export const percent = (part: number): string => `${Math.round(part * 100)}\u00a0%`;

export function duration(ms: number): string {
  if (ms < 1000) return `${short(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${short(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (n >= 1024 && at < units.length - 1) {
    n /= 1024;
    at++;
  }
  return `${short(n)} ${units[at]}`;
}

/** 135 M, 1.54 B. */
export function parameters(n: number): string {
  if (n >= 1e9) return `${short(n / 1e9)} B`;
  return n >= 1e6 ? `${short(n / 1e6)} M` : whole(n);
}
