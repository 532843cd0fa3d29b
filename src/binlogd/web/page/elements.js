// Making elements. Text goes in as text nodes only: nothing that a peer says of itself is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

// A list of names and values into a <dl>; a value is text or an element, and a wide one has a line to itself. What did
// not change stays, with the focus and the selection in it.
export function facts(list, rows) {
  rows.forEach(([name, value, wide], index) => {
    const known = list.children[index];
    const row = html("div", wide ? { class: "wide" } : {}, html("dt", {}, name), html("dd", wide ? { tabindex: 0 } : {}, value));
    if (!known) list.append(row);
    else if (!known.isEqualNode(row)) known.replaceWith(row);
  });
  while (list.children.length > rows.length) list.lastChild.remove();
}

// One tab stop for many things: the arrow keys go from one to the next.
export function roving(container, selector) {
  const all = () => [...container.querySelectorAll(selector)];
  container.addEventListener("keydown", (event) => {
    const items = all();
    const at = items.indexOf(event.target.closest(selector));
    if (at < 0) return;
    const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
    const to = items[steps[event.key]];
    if (event.key in steps) event.preventDefault();
    if (!to) return;
    for (const item of items) setAttribute(item, "tabindex", item === to ? 0 : -1);
    to.focus();
  });
  // Whoever was removed may have been the tab stop.
  return () => {
    const items = all();
    const stop = items.find((item) => item.getAttribute("tabindex") === "0") ?? items[0];
    for (const item of items) setAttribute(item, "tabindex", item === stop ? 0 : -1);
  };
}
