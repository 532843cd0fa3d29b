// Light or dark, before anything is painted: what was chosen here, else what the system prefers.
"use strict";
(() => {
  const KEY = "binlogd-theme"; // light | dark; absent: as the system
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try {
      return localStorage.getItem(KEY);
    } catch { // storage is forbidden: the choice lasts as long as the page
      return memory;
    }
  };
  let memory = null;
  const apply = () => {
    const theme = chosen() ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("themechange"));
  };
  const order = [null, "light", "dark"];
  globalThis.theme = {
    chosen,
    next() {
      memory = order[(order.indexOf(chosen()) + 1) % order.length];
      try {
        if (memory === null) localStorage.removeItem(KEY);
        else localStorage.setItem(KEY, memory);
      } catch { /* kept in memory */ }
      apply();
    },
  };
  system.addEventListener("change", apply);
  apply();
})();
