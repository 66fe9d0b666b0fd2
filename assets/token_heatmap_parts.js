// The small things that the view is made of: controls, legends, the tooltip. They show what they are told and say what
// a person did; none of them knows about scores.

const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const capital = (word) => word[0].toUpperCase() + word.slice(1);
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const fact = (name, value) => el("div", "", el("span", "", name), value);

function pane(cls, label) {
  const box = el("div", `text ${cls}`);
  box.tabIndex = 0;
  box.setAttribute("role", "listbox");
  box.setAttribute("aria-label", label);
  return box;
}
function head(title, note, ...rest) { return el("header", "head", el("h3", "", title), el("span", "note", note), ...rest); }
function button(cls, text, press) {
  const b = el("button", cls, text);
  b.type = "button";
  b.addEventListener("click", (e) => { e.stopPropagation(); press(); });
  return b;
}
function legend() {
  const words = el("span", "words"), brief = el("span", "words brief"), low = el("span"), ramp = el("i", "ramp"), high = el("span");
  const box = el("div", "legend", el("span", "scale", low, ramp, high), words, brief); // drawn from the right; in a narrow pane with its brief words
  let bent; // what the ramp was drawn for
  return {
    box,
    show(text, short, signed, intensity, top) { // the ramp bends with Intensity, as the text does
      put(words, text);
      put(brief, short);
      box.title = text;
      put(low, top ? (signed ? `−${top}` : "0") : "");
      put(high, top);
      if (bent === `${signed}|${intensity}`) return;
      bent = `${signed}|${intensity}`;
      const stops = Array.from({ length: 13 }, (_, k) => {
        const x = signed ? k / 6 - 1 : k / 12, level = Math.sign(x) * Math.round(LEVELS * Math.abs(x) ** (1 / intensity));
        return `color-mix(in srgb, var(${level > 0 ? "--for" : "--against"}) ${Math.round((Math.abs(level) / LEVELS) * 100)}%, transparent)`;
      });
      ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    },
  };
}

// Controls: native inputs, so that keyboard and screen readers find what they know. show() reflects the settings.
let groups = 0;
function choice(label, setting, options, help, change) {
  const name = `at2-${setting}-${groups++}`;
  const inputs = options.map(([value, text]) => {
    const input = el("input");
    Object.assign(input, { type: "radio", name });
    input.addEventListener("change", () => change(value));
    return { value, input, box: el("label", "", input, el("span", "", text)) };
  });
  const box = el("fieldset", "choice", el("legend", "", label), el("div", "options", ...inputs.map((i) => i.box)));
  box.title = help;
  return { box, show: (settings) => inputs.forEach((i) => { i.input.checked = i.value === settings[setting]; }) };
}
function slider(label, setting, min, max, step, say, help, change) {
  const input = el("input"), value = el("output");
  Object.assign(input, { type: "range", min, max, step });
  input.setAttribute("aria-label", label);
  input.addEventListener("input", () => { change(Number(input.value)); put(value, say(Number(input.value))); });
  const box = el("label", "slider", el("span", "", label), input, value);
  box.title = help;
  return { box, show: (settings) => { input.value = settings[setting]; put(value, say(settings[setting])); } };
}
function toggle(label, setting, help, change) {
  const input = el("input");
  Object.assign(input, { type: "checkbox" });
  input.setAttribute("role", "switch");
  input.addEventListener("change", () => change(input.checked));
  const box = el("label", "toggle", input, el("span", "", label));
  box.title = help;
  return { box, show: (settings) => { input.checked = settings[setting]; } };
}

// What is under the pointer, in numbers. A text that is scrolled under a pointer at rest is told, and nothing has moved: so it
// follows while it is hidden, too.
function tooltip() {
  const box = el("div", "tip");
  box.hidden = true;
  return {
    box,
    show(parts) {
      box.hidden = !parts;
      if (parts) box.replaceChildren(...parts.filter(Boolean));
    },
    follow(e) {
      const x = Math.min(e.clientX + 14, innerWidth - 250), y = e.clientY + 150 > innerHeight ? e.clientY - 120 : e.clientY + 20;
      box.style.transform = `translate(${x}px, ${y}px)`;
    },
  };
}
