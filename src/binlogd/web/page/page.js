// Asks for the status every second, for new samples and the files less often, and shows what is answered. While the
// page is hidden it asks seldom; while binlogd does not answer it says so, leaves standing what was known, and tries on.
import { Chain, sourceState } from "./chain.js";
import { html, setText } from "./elements.js";
import { FileMap } from "./files.js";
import { clockTime, duration, timeElement } from "./format.js";
import { Plots } from "./plots.js";
import { language, switchLanguage, word } from "./words.js";

const PERIOD = 1000; // milliseconds between two looks at the status
const HIDDEN_PERIOD = 15_000;
const LONGEST_PERIOD = 5000; // after looks that failed
const HISTORY_PERIOD = 5000;
const FILES_PERIOD = 10_000;
const PATIENCE = 5000; // for an answer

const byId = (id) => document.getElementById(id);
const theme = globalThis.theme;
const chain = new Chain(byId("chain"), byId("chain-note"), byId("chain-details"));
const plots = new Plots(byId("plots"));
const files = new FileMap({
  note: byId("files-note"), store: byId("store"), map: byId("map"), details: byId("map-details"), list: byId("list"),
});

let status = null;
let lostAt = null; // milliseconds since the epoch: the last answer before there was none
let answeredAt = Date.now();
let failures = 0;
let timer = null;
const askedAt = { history: -Infinity, files: -Infinity };
let shownFiles = "";

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function look() {
  clearTimeout(timer);
  try {
    const fresh = await ask("/api/status");
    if (lostAt !== null || (status && fresh.uptime_s < status.uptime_s)) {
      // What happened meanwhile is asked for anew: binlogd may be another process now.
      plots.clear();
      askedAt.history = askedAt.files = -Infinity;
    }
    status = fresh;
    answeredAt = Date.now();
    failures = 0;
    lostAt = null;
    showStatus();
    await lookFurther();
  } catch (trouble) {
    failures += 1;
    if (failures === 1 && !(trouble instanceof TypeError || trouble instanceof DOMException)) console.warn(trouble);
    lostAt ??= answeredAt;
  }
  showConnection();
  const wait = failures ? Math.min(PERIOD * 2 ** (failures - 1), LONGEST_PERIOD) : PERIOD;
  timer = setTimeout(look, document.hidden ? HIDDEN_PERIOD : wait);
}

async function lookFurther() {
  const now = performance.now();
  if (now - askedAt.history >= HISTORY_PERIOD) {
    askedAt.history = now;
    const after = plots.newest;
    plots.add(await ask(after === null ? "/api/history" : `/api/history?after=${after}`));
    chain.update(status, plots.rates());
  }
  const stored = `${status.store.files} ${status.store.published.file} ${status.store.damaged.length}`;
  if (now - askedAt.files >= FILES_PERIOD || stored !== shownFiles) {
    askedAt.files = now;
    shownFiles = stored;
    files.update(await ask("/api/files"));
  }
}

function showStatus() {
  const state = status.alarms.some((alarm) => alarm.severity === "critical") ? "bad"
    : status.alarms.length ? "warn" : sourceState(status.source);
  showPill(state, word(status.source.state));
  setText(byId("about"), `${status.version} · ${word("up {}", duration(status.uptime_s))}`);
  document.title = status.alarms.length ? `(${status.alarms.length}) binlogd` : "binlogd";
  showAlarms(status.alarms);
  chain.update(status, plots.rates());
  files.updateStore(status);
}

function showPill(state, text) {
  byId("state").dataset.state = state;
  setText(byId("state-text"), text);
}

// An alarm that stays keeps its element, so that a screen reader says only what is new.
const alarmElements = new Map();

function showAlarms(alarms) {
  byId("alarms-section").hidden = alarms.length === 0;
  const keys = new Set();
  for (const alarm of alarms) {
    let key = `${alarm.code} ${alarm.message.slice(0, 200)}`;
    while (keys.has(key)) key += " ";
    keys.add(key);
    let element = alarmElements.get(key);
    if (!element) {
      element = alarmElement(alarm);
      alarmElements.set(key, element);
      byId("alarms").append(element);
    }
    setText(element.querySelector(".severity"), word(alarm.severity));
    setText(element.querySelector(".message"), alarm.message);
    const hint = element.querySelector(".hint");
    setText(hint, alarm.hint);
    hint.hidden = !alarm.hint;
    const since = element.querySelector("time");
    since.hidden = alarm.since === null;
    if (alarm.since !== null) {
      const time = timeElement(alarm.since);
      setText(since, word("since {}", time.textContent));
      since.title = time.title;
      since.dateTime = time.dateTime;
    }
  }
  for (const [key, element] of alarmElements) {
    if (keys.has(key)) continue;
    element.remove();
    alarmElements.delete(key);
  }
}

function alarmElement(alarm) {
  const what = html(
    "p", { class: "what" },
    html("span", { class: "severity" }), html("code", {}, alarm.code), html("time", { "aria-live": "off" }),
  );
  const element = html("li", { "data-state": alarm.severity === "critical" ? "bad" : "warn" });
  element.append(html("span", { class: "mark", "aria-hidden": "true" }), what);
  element.append(html("p", { class: "message" }), html("p", { class: "hint" }));
  return element;
}

function showConnection() {
  const lost = lostAt !== null;
  document.body.classList.toggle("stale", lost);
  const notice = byId("connection");
  notice.hidden = !lost;
  if (!lost) return;
  const [what, ago] = notice.children; // only the first is read out, once
  setText(what, word("no connection to binlogd since {}", clockTime(lostAt / 1000)));
  const last = status ? ` ${word("What is shown below is the last that is known.")}` : "";
  setText(ago, `(${word("{} ago", duration((Date.now() - lostAt) / 1000))}).${last}`);
  showPill("bad", word("no connection"));
  document.title = "(!) binlogd";
}

function showWords() {
  document.documentElement.lang = language() === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) setText(element, word(element.dataset.word));
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", word(element.dataset.label));
  setText(byId("language"), language() === "zh" ? "English" : "中文");
  byId("language").lang = language() === "zh" ? "en" : "zh-CN";
  showTheme();
}

function showTheme() {
  setText(byId("theme"), word(`Theme: ${theme.chosen() ?? "system"}`));
}

byId("theme").addEventListener("click", () => theme.next());
document.addEventListener("themechange", showTheme);
byId("language").addEventListener("click", () => {
  switchLanguage();
  showWords();
  for (const element of alarmElements.values()) element.remove();
  alarmElements.clear();
  if (status) showStatus();
  showConnection();
  plots.redraw();
  files.draw();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});

showWords();
look();
