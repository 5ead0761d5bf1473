// What needs a script: hearing the log, the live tail, the time slider. Without it every page still works.
"use strict";
(() => {
  const QUIET_MS = 300, AT_MOST_EVERY_MS = 1000, ROWS_MAX = 200, COUNT_EVERY_MS = 5000;
  const said = document.getElementById("said");

  // --- the stream: closed while nobody looks, taken up where it was left -----------------------------------------
  function follow(address, heard) {
    let source = null, cursor = "";
    const open = () => {
      if (source || document.hidden) return;
      const url = new URL(address, location.href);
      url.searchParams.set("unnamed", "true");
      if (cursor) url.searchParams.set("after", cursor);
      source = new EventSource(url);
      source.onopen = () => { document.documentElement.dataset.stream = "open"; };
      source.onmessage = (message) => {
        cursor = message.lastEventId || cursor;
        if (message.data) heard(JSON.parse(message.data));
      };
    };
    const close = () => { if (source) { source.close(); source = null; } };
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : (open(), heard(null))));
    addEventListener("pagehide", close);
    addEventListener("pageshow", open);
    open();
  }

  // --- where a graph is wider than the window, the step it is at is what is looked for ------------------------------
  function seek() {
    const node = document.querySelector(".graph__node--current, .graph__node--waiting, .graph__node--failed");
    const frame = node?.closest(".scroll");
    if (frame) frame.scrollLeft += node.getBoundingClientRect().right - frame.getBoundingClientRect().right + 24;
  }
  seek();

  // --- pages whose middle is fetched again ------------------------------------------------------------------------
  const live = () => document.getElementById("live");
  if (live()?.dataset.stream) {
    let timer = 0, last = 0;
    const isBusy = () => {
      const at = document.activeElement;
      return live().contains(at) && at.matches("input:not([type=hidden]), select, textarea") ||
        [...live().querySelectorAll("input:not([type=hidden]):not([data-remember])")].some((one) => one.value);
    };
    const refresh = () => {
      timer = 0;
      if (document.hidden) return;
      if (isBusy()) { soon(); return; }
      last = Date.now();
      htmx.trigger(live(), "refresh");
    };
    const soon = () => {
      timer ||= setTimeout(refresh, Math.max(QUIET_MS, AT_MOST_EVERY_MS - (Date.now() - last)));
    };
    const tick = () => { soon(); setTimeout(tick, Number(live().dataset.every) * 1000); };
    setTimeout(tick, Number(live().dataset.every) * 1000);
    let open = [], before = live().dataset.said, places = [];
    document.body.addEventListener("htmx:beforeSwap", () => {
      open = [...live().querySelectorAll("details[open][id]")].map((one) => one.id);
      places = [...live().querySelectorAll(".scroll, pre")].map((one) => [one.scrollLeft, one.scrollTop]);
    });
    document.body.addEventListener("htmx:afterSwap", () => {
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      live().querySelectorAll(".scroll, pre").forEach((one, at) => {
        if (places[at]) [one.scrollLeft, one.scrollTop] = places[at];
      });
      if (live().dataset.said !== before) said.textContent = before = live().dataset.said;
      remember();
    });
    follow(live().dataset.stream, soon);
  }

  // --- the live tail -------------------------------------------------------------------------------------------------
  const template = document.getElementById("tail-row");
  if (template) {
    const body = document.getElementById("tail"), toggle = document.getElementById("tail-toggle");
    const count = document.getElementById("tail-count");
    let isLive = true, held = [], fresh = 0, told = 0;
    const target = (event) => ({
      "workflows.events": `/workflows/${encodeURIComponent(event.subject)}`,
      "agents.events": `/${event.type.startsWith("agent.") ? "agents" : "requests"}/${encodeURIComponent(event.subject)}`,
      "locks.events": `/locks?resource_id=${encodeURIComponent(event.subject)}`,
    })[event.topic];
    const link = (anchor, text, address) => {
      anchor.textContent = text ?? "";
      if (text && address) anchor.href = address; else anchor.removeAttribute("href");
    };
    const add = (event) => {
      const row = template.content.firstElementChild.cloneNode(true);
      const [time, type, subject, position, work] = row.cells;
      const [day, clock] = time.querySelectorAll("span");
      time.firstElementChild.dateTime = time.firstElementChild.title = event.time;
      day.textContent = event.time.slice(0, 10);
      clock.textContent = event.time.slice(11, 23);
      link(type.firstElementChild, event.type, `/events/${encodeURIComponent(event.position)}`);
      link(subject.firstElementChild, event.subject, target(event));
      position.textContent = event.position;
      const id = event.correlation_id;
      link(work.firstElementChild, id && id.length > 24 ? `${id.slice(0, 24)}…` : id, `/timeline/${encodeURIComponent(id)}`);
      body.prepend(row);
      while (body.rows.length > ROWS_MAX) body.lastElementChild.remove();
    };
    const tell = () => {
      count.textContent = isLive ? (fresh ? `${fresh} new since you came` : "Waiting for events") : `${held.length} held back`;
    };
    const announce = () => {
      if (fresh !== told) said.textContent = `${fresh - told} new events`;
      told = fresh;
      setTimeout(announce, COUNT_EVERY_MS);
    };
    toggle.hidden = false;
    toggle.addEventListener("click", () => {
      isLive = !isLive;
      toggle.setAttribute("aria-pressed", String(isLive));
      if (isLive) { held.forEach(add); held = []; }
      tell();
    });
    const known = new Set([...body.rows].map((row) => row.cells[3].textContent));
    follow(template.dataset.stream, (event) => {
      if (!event || known.delete(event.position)) return;
      fresh += 1;
      if (isLive) add(event); else held = [...held, event].slice(-ROWS_MAX);
      tell();
    });
    tell();
    announce();
  }

  // --- the time slider -------------------------------------------------------------------------------------------------
  const slider = document.querySelector("[data-slider]");
  if (slider) {
    const told = slider.form.querySelector("output");
    const words = (ms) => `${new Date(Number(ms)).toISOString().slice(0, 23).replace("T", " ")}`;
    const isPast = document.body.classList.contains("is-past");
    if (isPast && /^\d+$/.test(slider.getAttribute("value"))) told.textContent ||= words(slider.value);
    slider.setAttribute("aria-valuetext", isPast ? told.textContent : "now");
    slider.addEventListener("input", () => {
      told.textContent = words(slider.value);
      slider.setAttribute("aria-valuetext", told.textContent);
    });
    // Letting go of it goes there; with the keyboard it is Enter, so that each arrow is not a page.
    slider.addEventListener("pointerup", () => { if (told.textContent) slider.form.requestSubmit(); });
  }
  for (const one of document.querySelectorAll("[data-moment]"))
    if (/^\d+$/.test(one.dataset.moment)) one.textContent = new Date(Number(one.dataset.moment)).toISOString();

  // --- a name is asked for once ----------------------------------------------------------------------------------------
  function remember() {
    let name = "";
    try { name = localStorage.getItem("diurna-name") ?? ""; } catch { return; }
    for (const field of document.querySelectorAll("[data-remember]")) {
      field.value ||= name;
      field.onchange = () => localStorage.setItem("diurna-name", field.value);
    }
  }
  remember();
})();
