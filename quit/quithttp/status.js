"use strict";
// Shows each report that the server sends. In between, only clocks and the bars of what
// runs grow, and that is done here: all times are milliseconds since the fire.
(() => {
  const report = document.getElementById("report"), note = document.getElementById("note");
  let fired = null; // when, in the time of performance.now

  const text = ms => {
    if (ms < 60000) return (Math.floor(Math.max(ms, 0) / 100) / 10).toFixed(1) + "s";
    const s = Math.floor(ms / 1000), h = Math.floor(s / 3600);
    return (h ? h + "h" : "") + Math.floor(s / 60) % 60 + "m" + s % 60 + "s";
  };
  const tick = () => {
    if (fired === null) return;
    for (const e of report.querySelectorAll("[data-since]")) {
      const ms = performance.now() - fired - e.dataset.since;
      if (e.localName !== "rect") {
        e.textContent = text(ms);
        continue;
      }
      const span = e.closest("[data-span]").dataset.span, x = parseFloat(e.getAttribute("x"));
      e.setAttribute("width", Math.min(Math.max(100 * ms / span, 0.3), 100 - x) + "%");
    }
  };
  setInterval(tick, 100);

  const source = new EventSource(location.href);
  source.onopen = () => { note.textContent = "Live."; };
  source.onerror = () => {
    fired = null; // the clocks stop: nothing is known anymore
    note.textContent = source.readyState === EventSource.CLOSED
      ? "The connection is lost. This is the last that was seen; reload the page to try again."
      : "The connection is lost, and is being tried again. This is the last that was seen.";
  };
  source.addEventListener("clock", e => { fired = performance.now() - e.data; tick(); });
  source.addEventListener("report", e => {
    const open = report.querySelector("details")?.open, focused = document.activeElement?.localName === "summary";
    report.innerHTML = e.data; // the server has escaped it
    document.title = report.querySelector("h1").firstElementChild.nextSibling.data.trim() + " · quit";
    const details = report.querySelector("details");
    if (details && open) details.open = true;
    if (details && focused) details.firstElementChild.focus();
  });
  source.addEventListener("end", e => {
    source.close();
    fired = null;
    note.textContent = e.data;
  });
})();
