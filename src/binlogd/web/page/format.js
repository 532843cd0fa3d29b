// Numbers and times as people read them. The exact ones go into titles.
import { locale, word } from "./words.js";

const THIN = "\u202f"; // a narrow space that does not break, between a number and its unit
export const NONE = "–";

function digits(value) {
  return value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
}

export function count(value) {
  return value == null ? NONE : Math.round(value).toLocaleString(locale());
}

// 794 B, 1.50 KiB, 99.1 MiB, as `binlogd status` writes them.
export function size(bytes) {
  if (bytes == null) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let power = 0;
  while (bytes >= 1023.5 && power < units.length - 1) {
    bytes /= 1024;
    power += 1;
  }
  return (power ? bytes.toFixed(digits(bytes)) : String(Math.round(bytes))) + THIN + units[power];
}

export function rate(bytes) {
  return bytes == null ? NONE : `${size(bytes)}/s`;
}

export function perSecond(value) {
  return value == null ? NONE : `${value < 10 ? Number(value.toFixed(1)) : count(value)}/s`;
}

// A latency: 0.412 ms, 38 ms, 1.2 s.
export function short(seconds) {
  if (seconds == null) return NONE;
  if (seconds === 0) return `0${THIN}s`;
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)}${THIN}µs`;
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))}${THIN}ms`;
  return duration(seconds);
}

// 14 s, 3 min 20 s, 2 h 5 min, 3 d 4 h: the two largest units.
export function duration(seconds) {
  if (seconds == null) return NONE;
  if (seconds < 10) return `${Number(seconds.toFixed(1))}${THIN}s`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const number = Math.floor(rest / length);
    rest -= number * length;
    if (number || parts.length) parts.push([number, unit]);
  }
  return parts.slice(0, 2).filter(([number]) => number).map(([number, unit]) => `${number}${THIN}${unit}`).join(" ");
}

export function exactTime(seconds) {
  return new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, "Z");
}

export function clockTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString(locale(), { hour12: false });
}

// A <time> that says how long ago, with the moment itself in its title. `now` is the server's.
export function timeElement(seconds, now = Date.now() / 1000) {
  const element = document.createElement("time");
  if (seconds == null) {
    element.textContent = NONE;
    return element;
  }
  element.dateTime = exactTime(seconds);
  element.title = `${exactTime(seconds)} (${new Date(seconds * 1000).toLocaleString(locale())})`;
  element.textContent = word("{} ago", duration(Math.max(now - seconds, 0)));
  return element;
}
