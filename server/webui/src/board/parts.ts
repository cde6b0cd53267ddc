// Small pieces of the board.

import { h, setText } from "../dom";
import { percent, whole } from "../format";

/** Names with values that change. */
export class Facts {
  readonly element = h("dl", { class: "facts" });
  private readonly values = new Map<string, HTMLElement>();

  set(name: string, value: string): void {
    let element = this.values.get(name);
    if (element === undefined) {
      element = h("dd");
      this.values.set(name, element);
      this.element.append(h("div", {}, h("dt", {}, name), element));
    }
    setText(element, value);
  }
}

export interface Part {
  name: string;
  n: number;
  isFree?: boolean; // what is left of the whole
}

/** A bar of parts of a whole, with what each is. */
export class Bar {
  readonly element: HTMLElement;
  private readonly track = h("div", { class: "bar", "aria-hidden": "true" });
  private readonly list = h("ul", { class: "bar-legend" });

  constructor(private readonly write: (n: number) => string = whole) {
    this.element = h("div", {}, this.track, this.list);
  }

  update(parts: Part[]): void {
    while (this.track.children.length < parts.length) {
      const i = this.track.children.length;
      const name = parts[i]?.isFree ? "part-free" : `part-${i}`;
      this.track.append(h("span", { class: name }));
      this.list.append(h("li", { class: name }, h("span", { class: "swatch" }), h("span")));
    }
    parts.forEach(({ name, n }, i) => {
      (this.track.children[i] as HTMLElement).style.flexGrow = String(n);
      setText(this.list.children[i]?.lastChild as Node, `${name} ${this.write(n)}`);
    });
  }
}

export function share(part: number, of: number): string {
  return of ? percent(part / of) : "–";
}

export function panel(title: string, ...content: Node[]): HTMLElement {
  const id = `panel-${title.replace(/\W+/g, "-")}`;
  return h("section", { class: "panel", "aria-labelledby": id }, h("h3", { id }, title), ...content);
}
