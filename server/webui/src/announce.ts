// What screen readers are told. A stream is not read out piece by piece: that an answer is being
// written, and then the whole of it.

import { byId } from "./dom";

const MOST_CHARS = 2000;

export function announce(text: string): void {
  const region = byId("status");
  region.textContent = "";
  // An empty region first: the same words again are news as well.
  setTimeout(() => (region.textContent = text.slice(0, MOST_CHARS)), 50);
}
