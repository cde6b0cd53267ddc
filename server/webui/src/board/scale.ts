// Round numbers for axes.

/** The least of 1, 2, 5 times a power of ten that is at least `max`; at least `least`. */
export function scale(max: number, least = 1): number {
  const wanted = Math.max(max, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= wanted * (1 - 1e-9)) ?? wanted;
}

/** Powers of ten from the one below `min` to the one above `max`, at least two. */
export function decades(min: number, max: number): number[] {
  const from = Math.floor(Math.log10(min) + 1e-9);
  const to = Math.max(from + 1, Math.ceil(Math.log10(max) - 1e-9));
  return Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i));
}

/** Where lines are drawn below `top`, itself among them; zero is not. */
export function steps(top: number): number[] {
  const n = top.toPrecision(1).startsWith("5") ? 5 : 4;
  return Array.from({ length: n }, (_, i) => (top * (i + 1)) / n);
}
