// `js_on_load` of HTML components with buttons and fields in them. A click on, or a change of, an element with `data-do=NAME`
// becomes the event NAME of the component, with the element's data attributes (and `text`, what was typed) as the event's data.
// `theme.actions` puts `const EVENTS = [names]` in front: gradio offers every name that stands in quotes here as an event.
// Given by gradio: element (the component), trigger(name, data), watch(property, callback).

const actor = (event) => event.target.closest("[data-do]");
const act = (source, data = {}) => {
  if (!EVENTS.includes(source.dataset.do)) return;
  element.dataset.last = source.dataset.id ?? ""; // for handlers in the browser: gradio gives them the inputs, not the event's data
  trigger(source.dataset.do, { ...source.dataset, ...data });
};

// The HTML around a button may be replaced while it is pressed, and the browser then makes no click of it. So a pressed button
// is remembered by its data: releasing the pointer over one with the same data is a click.
const button = (event) => {
  const source = actor(event);
  return source?.tagName === "BUTTON" && !source.disabled ? source : null;
};
const identity = (source) => source && JSON.stringify({ ...source.dataset });
let pressed = null, handled = null;
element.addEventListener("keydown", () => { handled = null; });
element.addEventListener("pointerdown", (event) => {
  handled = null;
  pressed = event.button === 0 ? identity(button(event)) : null;
});
element.addEventListener("pointerup", (event) => {
  const source = button(event);
  if (source && pressed === identity(source)) {
    handled = pressed;
    act(source);
  }
  pressed = null;
});
element.addEventListener("click", (event) => { // by keyboard or by a screen reader
  const source = button(event);
  if (source && handled !== identity(source)) act(source);
  handled = null;
});

element.addEventListener("change", (event) => {
  const source = actor(event);
  if (!source || !["TEXTAREA", "INPUT"].includes(source.tagName)) return;
  act(source, { text: source.value });
  if (source.tagName === "INPUT") { // a name: one that is refused must go, and the HTML around it does not change then
    source.value = source.defaultValue;
    source.blur();
  }
});

// A field that was typed into keeps its text when the HTML around it is replaced: show the new text, but not under the cursor.
watch("value", () => element.querySelectorAll("textarea, input").forEach((field) => {
  if (field !== document.activeElement) field.value = field.defaultValue;
}));
