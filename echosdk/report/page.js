// Without this script the videos play and have the browser's own controls; with it, one button holds them all.
const videos = [...document.querySelectorAll("video")];
const [all, slow] = ["play", "slow"].map((id) => document.getElementById(id));
const play = (playing) => {
  for (const video of videos) playing ? video.play().catch(() => {}) : video.pause();
  all.textContent = playing ? "Pause all" : "Play all";
};
if (all && slow) {
  for (const video of videos) {
    video.controls = false;
    video.addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  }
  all.hidden = slow.hidden = false;
  all.addEventListener("click", () => play(all.textContent === "Play all"));
  slow.addEventListener("click", () => {
    const half = slow.getAttribute("aria-pressed") === "false";
    slow.setAttribute("aria-pressed", String(half));
    for (const video of videos) video.playbackRate = half ? 0.5 : 1;
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (const video of videos) video.autoplay = false;
    play(false);
  }
}

// Tables that can be sorted get buttons as heads. A column whose cells begin with numbers is sorted by those.
const lead = (cell) => {
  const found = cell.textContent.trim().replace(/,/g, "").match(/^[<>+]?\s*(-?\d+(\.\d+)?(e[-+]?\d+)?)/i);
  return found ? Number(found[1]) : NaN;
};
for (const table of document.querySelectorAll("table[data-sort]")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map((row) => ({ row, text: row.cells[column].textContent, number: lead(row.cells[column]) }));
      const numeric = column > 0 && rows.some(({ number }) => !Number.isNaN(number));
      const order = (a, b) => (numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }));
      const known = rows.filter(({ number }) => !numeric || !Number.isNaN(number)).sort((a, b) => (up ? order(a, b) : order(b, a)));
      const unknown = rows.filter(({ number }) => numeric && Number.isNaN(number)); // last, whichever way
      table.tBodies[0].append(...[...known, ...unknown].map(({ row }) => row));
    });
  });
}

// What is folded away on the screen is printed.
const folded = [...document.querySelectorAll("details.printed")];
addEventListener("beforeprint", () => { for (const part of folded) { part.dataset.was = String(part.open); part.open = true; } });
addEventListener("afterprint", () => { for (const part of folded) part.open = part.dataset.was === "true"; });
