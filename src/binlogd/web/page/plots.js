// The last hour: a plot each for throughput, transactions, ACK latency and lag, over the samples of /api/history.
import { clockTime, count, duration, NONE, perSecond, rate, short, size } from "./format.js";
import { html, setAttribute, setText, svg } from "./elements.js";
import { word } from "./words.js";

const LONGEST = 3600; // seconds shown
const SHORTEST = 300; // of a binlogd that runs since less
const HEIGHT = 132;
const LEFT = 4;
const TOP = 16;
const BOTTOM = 20;
const GAP = 3; // intervals without a sample before the line is broken

const PLOTS = [
  { title: "Throughput", show: rate, series: [["received_bytes", "Received"], ["sent_bytes", "Sent"]], base: 1024 },
  { title: "Transactions", show: perSecond, series: [["transactions", "Received"]], base: 10 },
  { title: "ACK latency", show: short, series: [["ack_p99", "p99"], ["ack_p50", "median"]], base: 10 },
  { title: "Lag of the replica furthest behind", show: size, series: [["lag_bytes", "Behind"]], base: 1024, beside: ["lag_seconds", duration] },
];

// The smallest round number that is not less: 1, 2, 5 × 10ⁿ, or powers of two times 1024ⁿ for bytes.
function ceiling(value, base) {
  if (!(value > 0)) return base === 1024 ? 1024 : 1;
  if (base === 1024) return 2 ** Math.ceil(Math.log2(value));
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * unit).find((step) => step >= value * 0.9999999);
}

class Plot {
  constructor(container, description) {
    Object.assign(this, description);
    this.area = svg("path", { class: "area" });
    this.paths = this.series.map((_, index) => svg("path", index ? { class: "second" } : {}));
    this.top = svg("text", { x: LEFT, y: 11 });
    this.start = svg("text", { x: LEFT, y: HEIGHT - 4 });
    this.end = svg("text", { y: HEIGHT - 4, "text-anchor": "end" });
    this.nothing = svg("text", { y: HEIGHT / 2, "text-anchor": "middle" });
    this.roof = svg("line", { x1: 0, y1: TOP, y2: TOP });
    this.floor = svg("line", { x1: 0, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM });
    this.cross = svg("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM, visibility: "hidden" });
    this.picture = svg("svg", { role: "img", tabindex: 0 });
    this.picture.append(this.roof, this.floor, this.area, ...this.paths.toReversed(), this.cross, this.top, this.start, this.end, this.nothing);
    this.name = html("span", { class: "title" });
    this.keys = this.series.map((_, index) => html("span", { class: index ? "key second" : "key" }));
    this.reading = html("output");
    this.figure = html("figure", {}, html("figcaption", {}, this.name, ...this.keys), this.picture, this.reading);
    container.append(this.figure);
    this.at = null; // the time that is read
    this.picture.addEventListener("pointermove", (event) => this.point(event));
    this.picture.addEventListener("pointerleave", () => this.read(null));
    this.picture.addEventListener("blur", () => this.read(null));
    this.picture.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  update(samples) {
    this.samples = samples;
    this.draw();
  }

  draw() {
    const width = this.picture.clientWidth;
    if (!width || !this.samples) return;
    const { time } = this.samples;
    this.width = width;
    const newest = time.at(-1) ?? 0;
    const minutes = Math.min(Math.max(Math.ceil((newest - (time[0] ?? newest)) / 60) * 60, SHORTEST), LONGEST) / 60;
    this.span = minutes * 60;
    this.from = newest - this.span;
    const values = this.series.map(([column]) => this.samples[column] ?? []);
    const most = Math.max(0, ...values.flat().filter((value) => value !== null));
    const known = values.some((column) => column.some((value) => value !== null));
    this.most = ceiling(most, this.base);
    this.paths.forEach((path, index) => setAttribute(path, "d", this.line(values[index]).join("")));
    setAttribute(this.area, "d", this.line(values[0]).map((piece) => this.closed(piece)).join(""));
    for (const line of [this.roof, this.floor]) setAttribute(line, "x2", width);
    setAttribute(this.end, "x", width - LEFT);
    setAttribute(this.nothing, "x", width / 2);
    setText(this.top, known ? this.show(this.most) : "");
    setText(this.start, `−${minutes}\u202fmin`);
    setText(this.end, word("now"));
    setText(this.nothing, known ? "" : word(time.length ? "nothing in the last hour" : "no samples yet"));
    setText(this.name, word(this.title));
    const summaries = this.series.map(([column, name], index) => {
      const value = this.samples[column]?.at(-1);
      setText(this.keys[index], `${word(name)} ${this.show(value)}`);
      const highest = values[index].reduce((a, b) => (b !== null && (a === null || b > a) ? b : a), null);
      return `${word(name)}: ${word("now {}", this.show(value))}, ${word("most {}", this.show(highest))}`;
    });
    setAttribute(this.picture, "aria-label", `${word(this.title)}, ${word("The last hour")}. ${summaries.join("; ")}`);
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${HEIGHT}`);
    this.read(this.at);
  }

  x(time) {
    return ((time - this.from) / this.span) * this.width;
  }

  y(value) {
    return HEIGHT - BOTTOM - (value / this.most) * (HEIGHT - BOTTOM - TOP);
  }

  // A path for each unbroken run of samples.
  line(values) {
    const pieces = [];
    let piece = "";
    let last = -Infinity;
    this.samples.time.forEach((time, index) => {
      const value = values[index];
      if (value == null || time - last > GAP * this.samples.interval) {
        if (piece) pieces.push(piece);
        piece = "";
      }
      last = time;
      if (value != null) piece += `${piece ? "L" : "M"}${this.x(time).toFixed(1)} ${this.y(value).toFixed(1)}`;
    });
    if (piece) pieces.push(piece);
    return pieces.map((one) => (one.includes("L") ? one : `${one}h.1`));
  }

  closed(piece) {
    const floor = HEIGHT - BOTTOM;
    const first = piece.slice(1).split(" ")[0];
    const last = piece.includes("L") ? piece.split("L").at(-1).split(" ")[0] : first;
    return `${piece}L${last} ${floor}L${first} ${floor}Z`;
  }

  point(event) {
    if (!this.samples?.time.length) return;
    const box = this.picture.getBoundingClientRect();
    this.read(this.from + ((event.clientX - box.left) / box.width) * this.span);
  }

  key(event) {
    const { time } = this.samples ?? { time: [] };
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -12, PageDown: 12, Home: -Infinity, End: Infinity };
    if (event.key === "Escape") this.read(null);
    if (!(event.key in steps) || !time.length) return;
    event.preventDefault();
    const now = this.at === null ? time.length - 1 : this.nearest(this.at) + steps[event.key];
    this.read(time[Math.min(Math.max(now, 0), time.length - 1)]);
  }

  nearest(time) {
    let best = 0;
    this.samples.time.forEach((one, index) => {
      if (Math.abs(one - time) < Math.abs(this.samples.time[best] - time)) best = index;
    });
    return best;
  }

  // Tell the sample nearest to a moment; null ends that.
  read(time) {
    this.at = time;
    if (time === null || !this.samples?.time.length) {
      setAttribute(this.cross, "visibility", "hidden");
      setText(this.reading, "");
      return;
    }
    const index = this.nearest(time);
    const at = this.samples.time[index];
    setAttribute(this.cross, "visibility", "visible");
    setAttribute(this.cross, "x1", this.x(at));
    setAttribute(this.cross, "x2", this.x(at));
    const parts = this.series.map(([column, name]) => `${word(name)} ${this.show(this.samples[column][index])}`);
    if (this.beside) parts.push(this.beside[1](this.samples[this.beside[0]][index]));
    setText(this.reading, `${clockTime(at)} · ${parts.join(" · ")}`);
  }
}

export class Plots {
  constructor(container) {
    this.plots = PLOTS.map((description) => new Plot(container, description));
    this.samples = { time: [], interval: 5 };
  }

  // What is newer than these samples; all of it when binlogd was started anew.
  get newest() {
    return this.samples.time.at(-1) ?? null;
  }

  add({ interval, kept, columns }) {
    const samples = { interval };
    for (const [name, values] of Object.entries(columns)) {
      samples[name] = [...(this.samples[name] ?? []), ...values].slice(-kept);
    }
    this.samples = samples;
    for (const plot of this.plots) plot.update(samples);
  }

  clear() {
    this.samples = { time: [], interval: 5 };
  }

  redraw() {
    for (const plot of this.plots) plot.draw();
  }

  // The newest rates.
  rates() {
    return Object.fromEntries(Object.entries(this.samples).map(([name, values]) => [name, values?.at?.(-1) ?? null]));
  }
}
