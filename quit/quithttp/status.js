"use strict";
// Shows each report that the server sends. Between two reports, only clocks and
// the bars of running steps change, which is done here. All times are
// milliseconds since the fire.
(() => {
  const report = document.getElementById("report"), note = document.getElementById("note");
  let fired = null; // in the time of performance.now; null if the clocks stand still

  const text = ms => {
    if (ms < 60000) return (Math.floor(Math.max(ms, 0) / 100) / 10).toFixed(1) + "s";
    const s = Math.floor(ms / 1000), h = Math.floor(s / 3600);
    return (h ? h + "h" : "") + Math.floor(s / 60) % 60 + "m" + s % 60 + "s";
  };
  const tick = () => {
    if (fired === null) return;
    const now = performance.now() - fired;
    for (const e of report.querySelectorAll("[data-until]")) {
      e.textContent = text(e.dataset.until - now);
    }
    for (const e of report.querySelectorAll("[data-since]")) {
      const ms = now - e.dataset.since;
      if (e.localName !== "rect") {
        e.textContent = text(ms);
        continue;
      }
      const span = e.closest("[data-span]").dataset.span, x = parseFloat(e.getAttribute("x"));
      e.setAttribute("width", Math.min(Math.max(100 * ms / span, 0.3), 100 - x) + "%");
    }
  };
  setInterval(tick, 100);

  const say = (kind, words) => {
    note.className = kind;
    if (note.textContent !== words) note.textContent = words;
  };
  const title = () => {
    document.title = report.querySelector("h1 .state").textContent + " · quit";
  };

  // Shows that nothing is known after the last report, unless that is the result.
  const stale = words => {
    tick();
    fired = null;
    const state = report.querySelector("h1:not(.ok, .failed) .state");
    if (!state) return false;
    say("lost", words);
    if (report.classList.contains("stale")) return true;
    report.classList.add("stale");
    const seen = state.textContent;
    state.textContent = "Last seen: " + seen[0].toLowerCase() + seen.slice(1);
    for (const e of report.querySelectorAll(".running .word")) e.textContent = "was running";
    title();
    return true;
  };

  // A server whose writers cannot stream ends each connection, so a lost one is
  // told only if there is no other soon.
  let lost = null; // the time of the loss and the timer that tells it
  const source = new EventSource(location.href);
  source.onopen = () => {
    clearTimeout(lost?.timer);
    lost = null;
    say("live", "Live.");
  };
  source.onerror = () => {
    tick();
    fired = null;
    const closed = () => source.readyState === EventSource.CLOSED;
    const tell = () => stale(`The connection was lost at ${lost.at}. The process may have ended. ` +
      (closed() ? "Reload the page to try again." : "Trying again."));
    lost ||= { at: new Date().toTimeString().slice(0, 8), timer: setTimeout(tell, 4000) };
    if (closed()) tell();
  };
  source.addEventListener("clock", e => { fired = performance.now() - e.data; tick(); });
  source.addEventListener("report", e => {
    const open = report.querySelector("details")?.open;
    const focused = document.activeElement?.localName === "summary";
    report.innerHTML = e.data; // escaped by the server
    report.classList.remove("stale");
    title();
    const details = report.querySelector("details");
    if (details && open) details.open = true;
    if (details && focused) details.firstElementChild.focus();
  });
  source.addEventListener("end", e => {
    source.close();
    if (!stale(e.data)) say("", e.data);
  });
})();
