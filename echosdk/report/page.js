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
