// What the page does by itself: its language, light or dark, clicks on what moves, the strength slider by keyboard,
// the step links.

// Gradio's built-in words follow the browser's language; here they follow the page's.
Object.defineProperty(navigator, "language", { get: () => LANGUAGE });
Object.defineProperty(navigator, "languages", { get: () => [LANGUAGE] });

const isDark = () => {
  const chosen = localStorage.getItem("sdlora-theme");
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};
const paint = () => {
  document.documentElement.style.colorScheme = isDark() ? "dark" : "light";
  if (document.body && document.body.classList.contains("dark") !== isDark()) {
    document.body.classList.toggle("dark", isDark());
  }
};
paint();
addEventListener("DOMContentLoaded", () => {
  paint();
  // Gradio sets the class anew when it starts.
  new MutationObserver(paint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
});

addEventListener("click", (event) => {
  if (event.target.closest?.("#theme")) {
    localStorage.setItem("sdlora-theme", isDark() ? "light" : "dark");
    paint();
  }
  if (event.target.closest?.("a[aria-disabled=true]")) event.preventDefault();
});

// Leaving a field sends its edit, and the answer may move the page while the button pressed next is still held down.
// The browser then takes press and release for two places and clicks neither.
let pressed = null;
addEventListener("pointerdown", ({ target, button, clientX, clientY }) => {
  const at = button === 0 && target.closest?.("button, a, label, summary");
  pressed = at ? { at, clientX, clientY } : null;
}, true);
addEventListener("pointerup", ({ target, clientX, clientY }) => {
  const from = pressed;
  pressed = null;
  if (!from?.at.isConnected || from.at.contains(target)) return;
  if (Math.hypot(clientX - from.clientX, clientY - from.clientY) < 4) from.at.click();
}, true);

// Gradio tells that a slider was let go by pointer only.
addEventListener("keyup", (event) => {
  const moved = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"];
  if (event.target.matches?.("#strength input[type=range]") && moved.includes(event.key)) {
    event.target.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
  }
});

// Of a number typed beside a slider, gradio sends first and clamps then: out of range, its server answers in English.
addEventListener("blur", ({ target }) => {
  const slider = target.matches?.(".slider_input_container input, input[type=number]") && target.closest(".block")?.querySelector("input[type=range]");
  if (!slider || target === slider || target.value === "") return;
  const clamped = Math.min(Math.max(target.value, slider.min), slider.max);
  if (clamped === Number(target.value)) return;
  target.value = clamped;
  target.dispatchEvent(new Event("input", { bubbles: true }));
}, true);

// The link of the step that is being read.
const follow = () => {
  const links = [...document.querySelectorAll(".steps a")];
  const passed = links.filter((link) => {
    const section = document.querySelector(link.getAttribute("href"));
    return section && section.getBoundingClientRect().top < innerHeight * 0.4;
  });
  const current = passed.at(-1) ?? links[0];
  for (const link of links) {
    if (link === current) link.setAttribute("aria-current", "step");
    else link.removeAttribute("aria-current");
  }
};
addEventListener("scroll", () => requestAnimationFrame(follow), { passive: true });
