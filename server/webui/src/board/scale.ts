// Round numbers for axes.

// Ends of axes, and into how many steps each is divided.
const ENDS = new Map([[1, 4], [2, 4], [3, 3], [4, 4], [5, 5], [6, 3], [8, 4], [10, 5]]);

/** A round number that is at least `max` and `least`, and not much more. */
export function scale(max: number, least = 1): number {
  const wanted = Math.max(max, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  const end = [...ENDS.keys()].find((n) => n * power >= wanted * (1 - 1e-9));
  return (end ?? 10) * power;
}

/** Powers of ten from the one below `min` to the one above `max`, at least two. */
export function decades(min: number, max: number): number[] {
  const from = Math.floor(Math.log10(min) + 1e-9);
  const to = Math.max(from + 1, Math.ceil(Math.log10(max) - 1e-9));
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
}

/** Where lines are drawn below `top`, itself among them; zero is not. */
export function steps(top: number): number[] {
  const n = ENDS.get(Number(top.toPrecision(1).charAt(0))) ?? 4;
  return Array.from({ length: n }, (_, i) => (top * (i + 1)) / n);
}
