// The chain as a picture: source → binlogd → replicas. Side by side where there is room, one below the other on a
// phone; from many replicas on they stand in columns, those that are furthest behind first.
import { count, duration, NONE, rate, short, size, timeElement } from "./format.js";
import { facts, html, roving, setAttribute, setText, svg } from "./elements.js";
import { word } from "./words.js";

const NARROW = 720; // pixels: below, the picture is a column
const HEIGHT = 62; // of a node
const GAP = 12;
const MARGIN = 16;
const FEW = 8; // replicas in one column, each with a link of its own
const BEHIND_SECONDS = 2; // and less than BEHIND_BYTES: in step, as the live tail is now and then
const BEHIND_BYTES = 1024 * 1024;
const FAR_SECONDS = 60;

export function replicaState(replica) {
  if (replica.lag_seconds >= FAR_SECONDS) return "bad";
  return replica.lag_seconds >= BEHIND_SECONDS || replica.lag_bytes >= BEHIND_BYTES ? "warn" : "ok";
}

export function sourceState(source) {
  return { streaming: "ok", connecting: "warn", backoff: "bad", stopped: "warn", failed: "bad" }[source.state] ?? "unknown";
}

export function address(host, port) {
  if (!host) return "";
  return `${host.includes(":") ? `[${host}]` : host}${port ? `:${port}` : ""}`;
}

function lagWords(replica) {
  if (replicaState(replica) === "ok") return word("in step");
  return word("{} and {} behind", size(replica.lag_bytes), duration(replica.lag_seconds));
}

const canvas = document.createElement("canvas").getContext("2d");

// As much of a text as fits, with … for the rest.
function fitted(text, width, font) {
  canvas.font = `${font} system-ui, "DejaVu Sans", sans-serif`;
  const letters = [...text.slice(0, 300)];
  if (canvas.measureText(text.slice(0, 300)).width <= width) return text.slice(0, 300);
  while (letters.length && canvas.measureText(`${letters.join("")}…`).width > width) letters.pop();
  return `${letters.join("")}…`;
}

// ● in order, ▲ worth a look, ◆ wrong, ○ not known.
function signPath(state, x, y) {
  const r = 5.5;
  if (state === "warn") return `M${x} ${y - r}L${x + r} ${y + r - 1}H${x - r}Z`;
  if (state === "bad") return `M${x} ${y - r - 1}L${x + r + 1} ${y}L${x} ${y + r + 1}L${x - r - 1} ${y}Z`;
  const hole = state === "unknown" ? `M${x - 3} ${y}a3 3 0 1 0 6 0a3 3 0 1 0 -6 0Z` : "";
  return `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z${hole}`;
}

class Node {
  constructor(id, chosen) {
    this.id = id;
    this.box = svg("rect", { class: "box", rx: 8 });
    this.kind = svg("text", { class: "kind" });
    this.name = svg("text", { class: "name" });
    this.word = svg("text", { class: "word" });
    this.sign = svg("path", { class: "sign", "fill-rule": "evenodd" });
    this.title = svg("title");
    this.group = svg("g", { class: "node", role: "button", tabindex: -1, "aria-pressed": "false" });
    this.group.append(this.title, this.box, this.sign, this.kind, this.name, this.word);
    this.group.addEventListener("click", () => chosen(this));
    this.group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      chosen(this);
    });
  }

  show({ kind, name, state, says }, { x, y, width }) {
    this.place = { x, y, width };
    setAttribute(this.group, "transform", `translate(${x} ${y})`);
    setAttribute(this.box, "width", width);
    setAttribute(this.box, "height", HEIGHT);
    for (const [element, left, top] of [[this.kind, 14, 17], [this.name, 14, 34], [this.word, 31, 52]]) {
      setAttribute(element, "x", left);
      setAttribute(element, "y", top);
    }
    setAttribute(this.sign, "d", signPath(state, 20, 47.5));
    setAttribute(this.sign, "data-state", state);
    setAttribute(this.word, "data-state", state);
    setText(this.kind, fitted(kind, width - 24, "11.5px"));
    setText(this.name, fitted(name, width - 24, "600 14px"));
    setText(this.word, fitted(says, width - 42, "600 12.5px"));
    const all = `${kind}: ${name}, ${says}`;
    setText(this.title, all);
    setAttribute(this.group, "aria-label", all);
  }
}

export class Chain {
  constructor(container, note, details) {
    this.container = container;
    this.note = note;
    this.details = details;
    this.nodes = new Map();
    this.links = new Map();
    this.lines = svg("g", { "aria-hidden": "true" });
    this.things = svg("g");
    this.picture = svg("svg", { role: "group", "aria-labelledby": "chain-title" }, this.lines, this.things);
    container.append(this.picture);
    this.tidy = roving(this.things, ".node");
    this.status = null;
    this.open = null; // the id of the node whose details are shown
    new ResizeObserver(() => this.draw()).observe(container);
  }

  update(status, rates) {
    this.status = status;
    this.rates = rates;
    this.draw();
  }

  draw() {
    const width = this.container.clientWidth;
    if (!this.status || !width) return;
    const { source, replicas, server } = this.status;
    const sorted = replicas.toSorted((a, b) => b.lag_bytes - a.lag_bytes || a.id - b.id);
    const layout = width < NARROW ? this.narrow(width, sorted.length) : this.wide(width, sorted.length);
    this.used = new Set();
    this.usedLinks = new Set();

    const state = sourceState(source);
    this.show("source", this.sourceNode(source, state), layout.source);
    this.show("binlogd", this.ownNode(server), layout.binlogd);
    this.link("in", layout.in, state, source.state === "streaming");
    sorted.forEach((replica, index) => {
      const id = `replica-${replica.id}`;
      this.show(id, this.replicaNode(replica), layout.replicas[index]);
      if (layout.links[index]) this.link(id, layout.links[index], replicaState(replica), true);
    });
    if (layout.trunk) {
      const states = sorted.map(replicaState);
      this.link("trunk", layout.trunk, ["bad", "warn"].find((one) => states.includes(one)) ?? "ok", true);
    }
    this.caption(layout, source, sorted.length, server);
    for (const [id, node] of this.nodes) if (!this.used.has(id)) { node.group.remove(); this.nodes.delete(id); }
    for (const [id, link] of this.links) if (!this.usedLinks.has(id)) { link.remove(); this.links.delete(id); }
    this.arrange(sorted);
    setAttribute(this.picture, "viewBox", `0 0 ${width} ${layout.height}`);
    setAttribute(this.picture, "height", layout.height);
    const behind = sorted.filter((replica) => replicaState(replica) !== "ok").length;
    const many = sorted.length === 1 ? word("1 replica") : word("{} replicas", count(sorted.length));
    setText(this.note, behind ? `${many}, ${word("{} behind, worst first", behind)}` : many);
    this.showDetails();
  }

  // The order of the nodes in the document is that of the arrow keys; moved only when it changed, to keep the focus.
  arrange(sorted) {
    const wanted = ["source", "binlogd", ...sorted.map((replica) => `replica-${replica.id}`)].map((id) => this.nodes.get(id).group);
    const focused = document.activeElement;
    wanted.forEach((group, index) => {
      if (this.things.children[index] !== group) this.things.insertBefore(group, this.things.children[index] ?? null);
    });
    if (wanted.includes(focused) && document.activeElement !== focused) focused.focus({ preventScroll: true });
    this.tidy();
  }

  wide(width, replicas) {
    const inner = width - 2 * MARGIN;
    const side = Math.min(Math.max(inner * 0.21, 170), 240);
    const between = replicas > FEW ? 70 : Math.max(inner * 0.1, 80);
    const left = MARGIN + 2 * side + 2 * between;
    const columns = replicas > FEW ? Math.max(Math.floor((width - MARGIN - left + GAP) / (172 + GAP)), 1) : 1;
    const room = (width - MARGIN - left - (columns - 1) * GAP) / columns;
    const rows = Math.max(Math.ceil(replicas / columns), 1);
    const height = Math.max(rows * (HEIGHT + GAP) - GAP + 2 * MARGIN, 190);
    const top = (height - rows * (HEIGHT + GAP) + GAP) / 2;
    const middle = replicas > FEW ? Math.max(Math.min(height / 2, 240), MARGIN + HEIGHT / 2) : height / 2;
    const source = { x: MARGIN, y: middle - HEIGHT / 2, width: side };
    const binlogd = { x: MARGIN + side + between, y: middle - HEIGHT / 2, width: side };
    const places = [];
    for (let index = 0; index < replicas; index += 1) {
      const row = Math.floor(index / columns);
      places.push({ x: left + (index % columns) * (room + GAP), y: top + row * (HEIGHT + GAP), width: room });
    }
    const out = binlogd.x + side;
    const links = replicas > FEW ? [] : places.map(({ x, y }) => {
      const end = y + HEIGHT / 2;
      return `M${out} ${middle}C${out + between / 2} ${middle} ${x - between / 2} ${end} ${x} ${end}`;
    });
    const trunk = replicas > FEW ? `M${out} ${middle}H${left - 14}M${left - 8} ${MARGIN}H${left - 14}V${height - MARGIN}H${left - 8}` : null;
    return {
      source, binlogd, replicas: places, links, trunk, height,
      in: `M${source.x + side} ${middle}H${binlogd.x}`,
      inLabel: { x: source.x + side + between / 2, y: middle - 8, anchor: "middle", room: between - 8 },
      inBelow: { x: source.x + side + between / 2, y: middle + 18, anchor: "middle", room: between - 8 },
      empty: { x: left, y: middle + 4, anchor: "start", room },
    };
  }

  narrow(width, replicas) {
    const inner = width - 2 * MARGIN;
    const apart = 44;
    const source = { x: MARGIN, y: MARGIN, width: inner };
    const binlogd = { x: MARGIN, y: MARGIN + HEIGHT + apart, width: inner };
    const first = binlogd.y + HEIGHT + 28;
    const indent = 26;
    const places = Array.from({ length: replicas }, (_, index) => (
      { x: MARGIN + indent, y: first + index * (HEIGHT + GAP), width: inner - indent }
    ));
    const links = places.map(({ x, y }) => `M${MARGIN + 10} ${binlogd.y + HEIGHT}V${y + HEIGHT / 2 - 8}q0 8 8 8H${x}`);
    return {
      source, binlogd, replicas: places, links, trunk: null,
      height: (replicas ? first + replicas * (HEIGHT + GAP) - GAP : first + 16) + MARGIN,
      in: `M${MARGIN + 10} ${source.y + HEIGHT}V${binlogd.y}`,
      inLabel: { x: MARGIN + 24, y: source.y + HEIGHT + 19, anchor: "start", room: inner - 30 },
      inBelow: { x: MARGIN + 24, y: source.y + HEIGHT + 36, anchor: "start", room: inner - 30 },
      empty: { x: MARGIN, y: first + 8, anchor: "start", room: inner },
    };
  }

  show(id, looks, place) {
    let node = this.nodes.get(id);
    if (!node) {
      node = new Node(id, (chosen) => this.choose(chosen));
      this.nodes.set(id, node);
      this.things.append(node.group);
    }
    this.used.add(id);
    node.show(looks, place);
    setAttribute(node.group, "aria-pressed", this.open === id);
  }

  link(id, path, state, flows) {
    let link = this.links.get(id);
    if (!link) {
      link = svg("g", {}, svg("path", { class: "link" }), svg("path", { class: "pulse" }));
      this.links.set(id, link);
      this.lines.append(link);
    }
    this.usedLinks.add(id);
    const [line, pulse] = link.children;
    setAttribute(line, "d", path);
    setAttribute(line, "data-state", state);
    setAttribute(pulse, "d", path);
    setAttribute(pulse, "visibility", flows && state === "ok" && id !== "trunk" ? "visible" : "hidden");
  }

  caption(layout, source, replicas, server) {
    const texts = [];
    if (source.state === "streaming") {
      texts.push([layout.inLabel, rate(this.rates?.received_bytes)]);
      texts.push([layout.inBelow, word(source.semi_sync ? "semi-sync" : "no semi-sync")]);
    }
    if (!replicas) texts.push([layout.empty, word(server.state === "serving" ? "no replicas attached" : "not serving")]);
    this.captions ??= svg("g", { "aria-hidden": "true" });
    this.captions.replaceChildren(...texts.map(([{ x, y, anchor, room }, text]) =>
      svg("text", { class: "small", x, y, "text-anchor": anchor }, fitted(text, room, "12px"))));
    this.picture.append(this.captions);
  }

  sourceNode(source, state) {
    return {
      kind: source.server_version ? `${word("source")} · ${source.server_version}` : word("source"),
      name: address(source.host, source.port) || word("no source"),
      state,
      says: word(source.state),
    };
  }

  ownNode(server) {
    const { store, server_id: id, version } = this.status;
    const bad = this.status.alarms.some((alarm) => alarm.severity === "critical");
    return {
      kind: `binlogd ${version} · server_id ${id ?? NONE}`,
      name: store.published.file ? `${store.published.file}:${store.published.position}` : NONE,
      state: bad ? "bad" : this.status.alarms.length || server.state !== "serving" ? "warn" : "ok",
      says: `${word(server.state === "serving" ? "serving" : "not serving")}${server.listen ? ` ${server.listen}` : ""}`,
    };
  }

  replicaNode(replica) {
    return {
      kind: [`server_id ${replica.server_id}`, replica.version ?? replica.program].filter(Boolean).join(" · "),
      name: replica.report_host || address(replica.host, replica.port),
      state: replicaState(replica),
      says: lagWords(replica),
    };
  }

  choose(node) {
    this.open = this.open === node.id ? null : node.id;
    for (const one of this.nodes.values()) setAttribute(one.group, "aria-pressed", this.open === one.id);
    this.showDetails();
  }

  showDetails() {
    const { source, server, replicas, store } = this.status;
    const replica = replicas.find((one) => `replica-${one.id}` === this.open);
    const [title, rows] =
      this.open === "source" ? [word("source"), sourceFacts(source)]
      : this.open === "binlogd" ? ["binlogd", ownFacts(this.status, server, store)]
      : replica ? [word("replica"), replicaFacts(replica)]
      : [null, []];
    this.details.hidden = title === null;
    if (title === null) return;
    if (!this.details.firstChild) {
      this.details.append(html("header", {}, html("h3"), html("button", { type: "button" })), html("dl", { class: "facts" }));
      this.details.querySelector("button").addEventListener("click", () => {
        const node = this.nodes.get(this.open);
        if (node) { this.choose(node); node.group.focus(); } else { this.open = null; this.details.hidden = true; }
      });
    }
    setText(this.details.querySelector("h3"), title);
    setText(this.details.querySelector("button"), word("Close"));
    facts(this.details.querySelector("dl"), rows);
  }
}

const yesNo = (value) => word(value ? "yes" : "no");

function sourceFacts(source) {
  const acks = source.ack_seconds ?? {};
  return [
    [word("Host"), address(source.host, source.port) || NONE],
    [word("State"), word(source.state)],
    [word("Version"), source.server_version || NONE],
    ["server_uuid", source.server_uuid || NONE],
    [word("semi-sync"), yesNo(source.semi_sync)],
    [word("TLS"), yesNo(source.tls)],
    [word("Position"), source.file ? `${source.file}:${source.position}` : NONE],
    [word("Newest event"), timeElement(source.last_event_time)],
    [word("Received bytes"), size(source.bytes_received)],
    [word("Transactions"), count(source.transactions_received)],
    [word("Acknowledged"), count(source.acks_sent)],
    [word("ACK latency"), `${short(acks.p50)} / p99 ${short(acks.p99)} / max ${short(acks.max)}`],
    [word("Reconnects"), count(source.reconnects)],
    ...(source.last_error ? [[word("Last error"), source.last_error, true]] : []),
  ];
}

function ownFacts(status, server, store) {
  return [
    [word("Version"), status.version],
    ["server_uuid", status.server_uuid ?? NONE],
    [word("Listener"), server.listen ?? NONE],
    [word("Connections"), count(server.connections)],
    [word("Logins refused"), count(server.logins_refused)],
    [word("Sent bytes"), size(server.sent_bytes)],
    [word("gtid_executed"), (store.gtid_executed || word("none")).slice(0, 4000), true],
    [word("gtid_purged"), (store.gtid_purged || word("none")).slice(0, 4000), true],
  ];
}

function replicaFacts(replica) {
  return [
    [word("Host"), replica.report_host || NONE],
    [word("Address"), address(replica.host, replica.port)],
    [word("State"), lagWords(replica)],
    ["server_id", String(replica.server_id)],
    ["server_uuid", replica.server_uuid || NONE],
    [word("User"), replica.user],
    [word("Program"), [replica.program, replica.version].filter(Boolean).join(" ") || NONE],
    [word("Mode"), replica.mode],
    [word("Position"), `${replica.file}:${replica.position}`],
    [word("Behind"), `${count(replica.lag_bytes)} B, ${duration(replica.lag_seconds)}`],
    [word("Newest event"), timeElement(replica.last_event_time || null)],
    [word("Sent bytes"), size(replica.sent_bytes)],
    [word("Attached"), timeElement(replica.since)],
    [word("TLS"), yesNo(replica.tls)],
  ];
}
