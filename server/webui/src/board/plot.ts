// A line plot of the last minutes.

import { h, setText, svg } from "../dom";
import { short } from "../format";
import { decades, scale, steps } from "./scale";

export interface Point {
  age: number; // seconds
  values: (number | null)[]; // one a series
}
export interface Series {
  name: string;
  isDotted?: boolean; // points, where values are rare
}

const SPANS = [60, 120, 300]; // seconds: the least that holds all there is
const HEIGHT = 190;
const LEFT = 44;
const [TOP, BOTTOM, RIGHT] = [10, 22, 8];

export class Plot {
  readonly element: HTMLElement;
  private readonly drawing = svg("svg", { class: "plot", role: "img" });
  private readonly readout = h("p", { class: "readout", "aria-hidden": "true" });
  private readonly rows = h("tbody");
  private points: Point[] = [];
  private pointed: number | null = null; // an age
  private span = 60;
  private shown = "";

  constructor(
    private readonly title: string,
    private readonly unit: string,
    private readonly series: Series[],
    private readonly isLog = false,
  ) {
    const id = `plot-${title.replace(/\W+/g, "-")}`;
    const legend = series.map(({ name }, i) =>
      h("li", { class: `series-${i}` }, h("span", { class: "swatch" }), name),
    );
    const heads = ["Seconds ago", ...series.map(({ name }) => `${name}, ${unit}`)];
    this.element = h(
      "figure",
      { class: "panel", "aria-labelledby": id },
      h("figcaption", {}, h("h3", { id }, title), h("ul", { class: "legend" }, ...legend)),
      this.drawing,
      this.readout,
      h(
        "details",
        { class: "numbers" },
        h("summary", {}, "Last minute in numbers"),
        h(
          "table",
          {},
          h("thead", {}, h("tr", {}, ...heads.map((text) => h("th", { scope: "col" }, text)))),
          this.rows,
        ),
      ),
    );
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => {
      this.pointed = null;
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  update(points: Point[]): void {
    this.points = points;
    const oldest = points[0]?.age ?? 0;
    this.span = SPANS.find((span) => oldest <= span) ?? 300;
    this.draw();
    this.showNumbers();
  }

  private point(event: PointerEvent): void {
    const x = event.clientX - this.drawing.getBoundingClientRect().left;
    const part = 1 - (x - LEFT) / (this.width - LEFT - RIGHT);
    this.pointed = Math.max(0, Math.min(this.span, part * this.span));
    this.draw();
  }

  private get width(): number {
    return Math.max(200, this.drawing.clientWidth);
  }

  private draw(): void {
    const { width } = this;
    const x = (age: number) => LEFT + (width - LEFT - RIGHT) * (1 - age / this.span);
    const { lines, part } = this.axis();
    const y = (value: number) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part(value);
    const parts = [...grid(lines, width, y), ...ages(this.span, x)];
    this.series.forEach((series, i) => {
      const line = series.isDotted ? this.dots(i, x, y) : [this.line(i, x, y)];
      parts.push(...line);
    });
    const at = this.pointedPoint();
    if (at !== undefined && this.pointed !== null) {
      const bounds = { x1: x(at.age), x2: x(at.age), y1: TOP, y2: HEIGHT - BOTTOM };
      parts.push(svg("line", { class: "cursor", ...bounds }));
    }
    this.drawing.setAttribute("width", String(width));
    this.drawing.setAttribute("height", String(HEIGHT));
    this.drawing.setAttribute("aria-label", this.inWords());
    this.drawing.replaceChildren(...parts);
    this.showReadout(at);
  }

  /** Values that get a line, and how high a value stands, from 0 to 1. */
  private axis(): { lines: number[]; part: (value: number) => number } {
    const all = this.points.flatMap(({ values }) => values.filter((v) => v !== null));
    if (!this.isLog) {
      const top = scale(Math.max(0, ...all));
      return { lines: [0, ...steps(top)], part: (value) => value / top };
    }
    const positive = all.filter((value) => value > 0);
    const lines = positive.length
      ? decades(Math.min(...positive), Math.max(...positive))
      : decades(1, 1000);
    const [low, high] = [Math.log10(lines[0] ?? 1), Math.log10(lines.at(-1) ?? 10)];
    return { lines, part: (value) => (Math.log10(Math.max(value, lines[0] ?? 1)) - low) / (high - low) };
  }

  private pointedPoint(): Point | undefined {
    const wanted = this.pointed ?? 0;
    const off = (point: Point) => Math.abs(point.age - wanted);
    return this.points.reduce<Point | undefined>(
      (best, point) => (best === undefined || off(point) <= off(best) ? point : best),
      undefined,
    );
  }

  private line(i: number, x: (age: number) => number, y: (value: number) => number): SVGElement {
    let d = "";
    let isOn = false;
    for (const { age, values } of this.points) {
      const value = values[i];
      if (age > this.span || value === null || value === undefined) {
        isOn = false;
        continue;
      }
      d += `${isOn ? "L" : "M"}${x(age).toFixed(1)} ${y(value).toFixed(1)}`;
      isOn = true;
    }
    return svg("path", { class: `line series-${i}`, d });
  }

  private dots(i: number, x: (age: number) => number, y: (value: number) => number): SVGElement[] {
    return this.points.flatMap(({ age, values }) => {
      const value = values[i];
      if (value === null || value === undefined || age > this.span) return [];
      return [svg("circle", { class: `point series-${i}`, cx: x(age), cy: y(value), r: 2.5 })];
    });
  }

  private showReadout(at: Point | undefined): void {
    if (at === undefined) {
      setText(this.readout, "");
      return;
    }
    const when = at.age < 1.5 ? "now" : `${Math.round(at.age)} s ago`;
    const values = this.series.map(({ name }, i) => {
      const value = at.values[i];
      return `${name} ${value === null || value === undefined ? "–" : `${short(value)} ${this.unit}`}`;
    });
    setText(this.readout, `${when}: ${values.join(", ")}`);
  }

  private inWords(): string {
    const last = this.points.at(-1);
    const values = this.series.map(({ name }, i) => {
      const value = last?.values[i];
      return `${name} ${value === null || value === undefined ? "none" : `${short(value)} ${this.unit}`}`;
    });
    return `${this.title}, the last minutes. Now: ${values.join(", ")}.`;
  }

  /** Means of ten seconds each, for those who do not see lines. */
  private showNumbers(): void {
    const rows = [0, 10, 20, 30, 40, 50].map((from) => {
      const inside = this.points.filter(({ age }) => age >= from && age < from + 10);
      const means = this.series.map((_, i) => {
        const values = inside.map(({ values }) => values[i]).filter((v) => typeof v === "number");
        return values.length ? short(values.reduce((a, b) => a + b, 0) / values.length) : "–";
      });
      return [`${from} to ${from + 10}`, ...means];
    });
    const key = JSON.stringify(rows);
    if (key === this.shown) return;
    this.shown = key;
    this.rows.replaceChildren(
      ...rows.map(([head, ...cells]) =>
        h("tr", {}, h("th", { scope: "row" }, head), ...cells.map((text) => h("td", {}, text))),
      ),
    );
  }
}

function grid(lines: number[], width: number, y: (value: number) => number): SVGElement[] {
  return lines.flatMap((value) => [
    svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, short(value)),
  ]);
}

function ages(span: number, x: (age: number) => number): SVGElement[] {
  const step = span > 120 ? 60 : span / 4;
  return Array.from({ length: span / step + 1 }, (_, i) => i * step).map((age) => {
    const anchor = age === 0 ? "end" : age === span ? "start" : "middle";
    const words = span > 120 ? `−${age / 60} min` : `−${age} s`;
    const text = age === 0 ? "now" : words;
    return svg("text", { class: "tick", x: x(age), y: HEIGHT - 5, "text-anchor": anchor }, text);
  });
}
