// The stored files as a map: a row of cells for each timeline, a cell for each file, or for some in a row when there
// are many. A cell chosen shows what it holds, and lists its files on demand.
import { count, exactTime, NONE, size, timeElement } from "./format.js";
import { facts, html, roving, setAttribute, setText } from "./elements.js";
import { word } from "./words.js";

const LISTED = 50;

export class FileMap {
  constructor({ note, store, map, details, list }) {
    Object.assign(this, { note, store, map, details, list });
    this.files = null;
    this.open = null; // the key of the cell whose details are shown
    this.drawn = "";
    this.tidy = roving(map, ".cell");
  }

  updateStore({ store }) {
    const published = store.published.file ? `${store.published.file}:${store.published.position}` : NONE;
    facts(this.store, [
      [word("Published up to"), published],
      [word("Stored"), `${size(store.bytes)}, ${filesWord(store.files)}`],
      [word("Free on the disk"), size(store.free_bytes)],
      [word("Oldest event"), timeElement(store.oldest_time)],
    ]);
  }

  update(files) {
    this.files = files;
    this.draw();
  }

  draw() {
    if (!this.files) return;
    const { timelines } = this.files;
    setText(this.note, `${filesWord(this.files.files)}, ${size(this.files.bytes)}`);
    const shape = JSON.stringify([document.documentElement.lang, timelines.map((one) => [one.number, one.cells.length, one.files])]);
    if (shape !== this.drawn) this.build(timelines);
    this.drawn = shape;
    for (const timeline of timelines) {
      const most = Math.max(...timeline.cells.map((cell) => cell.bytes), 1);
      for (const cell of timeline.cells) this.fill(timeline, cell, most);
    }
    this.showDetails();
  }

  build(timelines) {
    const focused = document.activeElement?.dataset?.key;
    this.cells = new Map();
    const rows = timelines.map((timeline) => {
      const cells = html("div", { class: "cells", role: "group", "aria-label": word("Timeline {}", timeline.number) });
      for (const cell of timeline.cells) {
        const key = `${timeline.number}-${cell.offset}`;
        const element = html("button", { type: "button", class: "cell", "data-key": key, tabindex: -1 }, html("span"));
        element.addEventListener("click", () => this.choose(key));
        this.cells.set(key, element);
        cells.append(element);
      }
      const perCell = timeline.cells[0]?.files ?? 1;
      const says = [timeline.source_uuid, filesWord(timeline.files), size(timeline.bytes)];
      if (perCell > 1) says.push(word("{} files a cell", count(perCell)));
      return html("div", {}, html("h3", {}, word("Timeline {}", timeline.number), html("span", {}, says.join(" · "))), cells);
    });
    const legend = html(
      "p", { class: "legend" },
      ...["finished", "newest", "damaged"].map((state) => html("span", {}, html("i", { class: state }), word(state))),
      html("span", {}, word("height: size")),
    );
    this.map.replaceChildren(...(rows.length ? [...rows, legend] : [word("Nothing is stored yet.")]));
    this.tidy();
    if (focused) this.cells.get(focused)?.focus();
  }

  fill(timeline, cell, most) {
    const element = this.cells.get(`${timeline.number}-${cell.offset}`);
    const names = cell.first === cell.last ? cell.first : `${cell.first} – ${cell.last}`;
    const label = `${names}: ${size(cell.bytes)}, ${word(cell.state)}`;
    setAttribute(element, "data-state", cell.state);
    setAttribute(element, "aria-label", label);
    setAttribute(element, "title", label);
    setAttribute(element, "aria-pressed", this.open === element.dataset.key);
    element.firstChild.style.height = `${Math.max((cell.bytes / most) * 100, 8)}%`;
  }

  choose(key) {
    this.open = this.open === key ? null : key;
    this.list.hidden = true;
    this.draw();
  }

  found() {
    for (const timeline of this.files.timelines) {
      const cell = timeline.cells.find((one) => `${timeline.number}-${one.offset}` === this.open);
      if (cell) return { timeline, cell };
    }
    return null;
  }

  showDetails() {
    const found = this.open === null ? null : this.found();
    this.details.hidden = found === null;
    if (found === null) {
      this.list.hidden = true;
      return;
    }
    const { timeline, cell } = found;
    if (!this.details.firstChild) this.buildDetails();
    const [title, list, close] = this.details.querySelectorAll("h3, button");
    setText(title, cell.first === cell.last ? cell.first : `${cell.first} – ${cell.last}`);
    setText(list, word("List these files"));
    setText(close, word("Close"));
    facts(this.details.querySelector("dl"), [
      [word("Files"), count(cell.files)],
      [word("Size"), size(cell.bytes)],
      [word("Transactions"), cell.state === "newest" && cell.files === 1 ? NONE : count(cell.transactions)],
      [word("First time"), timeElement(cell.first_time)],
      [word("Last time"), timeElement(cell.last_time)],
      [word("State"), word(cell.state)],
      [word("Timeline {}", timeline.number), timeline.source_uuid],
    ]);
  }

  buildDetails() {
    const list = html("button", { type: "button" });
    const close = html("button", { type: "button" });
    this.details.append(html("header", {}, html("h3"), html("span", {}, list, " ", close)), html("dl", { class: "facts" }));
    list.addEventListener("click", () => {
      const { timeline, cell } = this.found();
      this.showList(timeline.number, cell.offset);
    });
    close.addEventListener("click", () => {
      const element = this.cells.get(this.open);
      this.choose(this.open);
      element?.focus();
    });
  }

  async showList(timeline, offset) {
    const answer = await fetch(`/api/files?timeline=${timeline}&offset=${offset}&limit=${LISTED}`);
    if (!answer.ok) return;
    const page = await answer.json();
    const earlier = html("button", { type: "button" }, word("Earlier"));
    const later = html("button", { type: "button" }, word("Later"));
    earlier.disabled = page.offset === 0;
    later.disabled = page.offset + page.list.length >= page.files;
    earlier.addEventListener("click", () => this.showList(timeline, Math.max(page.offset - LISTED, 0)));
    later.addEventListener("click", () => this.showList(timeline, page.offset + LISTED));
    const range = word("{}–{} of {}", count(page.offset + 1), count(page.offset + page.list.length), count(page.files));
    const headings = [["Name"], ["Size", "number"], ["Transactions", "number"], ["First time"], ["Last time"], ["State"], ["GTIDs"]];
    const time = (seconds) => (seconds === null ? NONE : exactTime(seconds));
    const rows = page.list.map((file) => html(
      "tr", {},
      html("td", {}, file.name),
      html("td", { class: "number", title: `${file.size} B` }, size(file.size)),
      html("td", { class: "number" }, count(file.transactions)),
      html("td", {}, time(file.first_time)),
      html("td", {}, time(file.last_time)),
      html("td", {}, word(file.state)),
      html("td", {}, file.gtids || NONE),
    ));
    this.list.replaceChildren(
      html("nav", { "aria-label": word("Stored files") }, earlier, later, html("span", { role: "status" }, range)),
      html("table", {},
        html("thead", {}, html("tr", {}, ...headings.map(([name, kind]) => html("th", { scope: "col", class: kind }, word(name))))),
        html("tbody", {}, ...rows)),
    );
    this.list.hidden = false;
    this.list.tabIndex = 0;
  }
}

function filesWord(number) {
  return number === 1 ? word("1 file") : word("{} files", count(number));
}
