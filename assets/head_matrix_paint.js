// Colours from the theme as it is now. The ramp goes from the background through blue to the far end of the
// lightness scale, evenly in OKLab, so equal steps in weight look like equal steps.
function palette(root) {
  const style = getComputedStyle(root), hue = (name, fallback) => rgb(style.getPropertyValue(name).trim() || fallback);
  const background = hue("--st-background-color", "#fff"), text = hue("--st-text-color", "#222"), primary = hue("--st-primary-color", "#3b82f6");
  const dark = lab(background)[0] < 0.5;
  const stops = dark ? [background, [44, 102, 188], [125, 177, 242], [248, 246, 228]] : [background, [125, 177, 242], [38, 96, 178], [12, 24, 60]];
  const mix = (share, colour = text) => css(colour, share);
  return {
    font: style.fontFamily || "sans-serif", ramp: ramp(stops), background: css(background), text: css(text), dim: mix(0.65), border: mix(0.25), line: mix(0.4), faint: mix(0.06), cross: mix(0.1),
    primary: css(primary), onPrimary: lab(primary)[0] > 0.65 ? "#111" : "#fff",
    context: mix(0.15), title: mix(0.08), query: mix(0.26), other: mix(0.1),
  };
}
function ramp(stops) {
  const labs = stops.map(lab), table = new Uint8ClampedArray(256 * 4);
  for (let k = 0; k < 256; k++) {
    const t = (k / 255) * (labs.length - 1), i = Math.min(labs.length - 2, Math.floor(t)), f = t - i;
    table.set([...unlab(labs[i].map((v, j) => v + (labs[i + 1][j] - v) * f)), 255], 4 * k);
  }
  return table;
}
function lab([r, g, b]) {
  const [R, G, B] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  const [l, m, s] = [0.4122214708 * R + 0.5363325363 * G + 0.0514459929 * B, 0.2119034982 * R + 0.6806995451 * G + 0.1073969566 * B, 0.0883024619 * R + 0.2817188376 * G + 0.6299787005 * B].map(Math.cbrt);
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s, 1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s, 0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
}
function unlab([L, a, b]) {
  const [l, m, s] = [L + 0.3963377774 * a + 0.2158037573 * b, L - 0.1055613458 * a - 0.0638541728 * b, L - 0.0894841775 * a - 1.291485548 * b].map((v) => v ** 3);
  return [4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s, -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s, -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s]
    .map((v) => 255 * (v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055));
}
const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function rgb(colour) { // any CSS colour, by painting it
  probe.clearRect(0, 0, 1, 1);
  probe.fillStyle = colour;
  probe.fillRect(0, 0, 1, 1);
  return [...probe.getImageData(0, 0, 1, 1).data.subarray(0, 3)];
}
function css([r, g, b], alpha = 1) { return `rgba(${r},${g},${b},${alpha})`; }

// The weight at which the colours end: a few cells, a quarter of one per response token, may lie above it. With the
// single largest weight there, one token that draws all attention would leave the rest of the matrix blank.
function bright(weights, n, rows, from) {
  let most = 0;
  for (let r = 0; r < rows; r++) for (let c = from; c < n; c++) most = Math.max(most, weights[r * n + c]);
  if (!most) return 0;
  const bins = new Uint32Array(4096);
  for (let r = 0; r < rows; r++) for (let c = from; c < n; c++) bins[Math.min(4095, Math.floor((weights[r * n + c] / most) * 4096))]++;
  let above = 0, k = 4095;
  while (k > 0 && above + bins[k] <= rows / 4) above += bins[k--];
  return (most * (k + 1)) / 4096;
}

function line(label, tokens, i) { // a token in its sentence, as text nodes
  const box = el("div"), before = tokens.slice(Math.max(0, i - 8), i).join(""), after = tokens.slice(i + 1, i + 13).join("");
  box.append(el("span", "dim", label), visible(before), el("mark", "", visible(tokens[i]) || "·"), visible(after));
  return box;
}
const TURNS = { "\u202a": "LRE", "\u202b": "RLE", "\u202c": "PDF", "\u202d": "LRO", "\u202e": "RLO", "\u2066": "LRI", "\u2067": "RLI", "\u2068": "FSI", "\u2069": "PDI" };
function visible(text) { // what turns the direction of a line is named, and no letter carries more marks than a line has room for
  const shown = text.replace(/\r?\n/g, "↵").replace(/\t/g, "⇥").replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => `‹${TURNS[c]}›`).replace(/(\p{M}{4})\p{M}+/gu, "$1");
  return shown.trim() ? shown : shown.replace(/\s/g, "␣"); // a token of nothing but space
}
function fit(ink, text, room) {
  if (room < 8) return "";
  if (ink.measureText(text).width <= room) return text;
  const letters = Array.from(text.slice(0, 80));
  while (letters.length && ink.measureText(letters.join("") + "…").width > room) letters.pop();
  return letters.length ? letters.join("") + "…" : "";
}
function weightText(w) { return w >= 0.01 ? w.toFixed(3) : w >= 0.0001 ? w.toFixed(5) : w ? w.toExponential(1).replace("-", "−") : "0"; }
function clamp(v, lo, hi) { return Math.max(lo, Math.min(hi, v)); }
function el(tag, cls, text) { const e = document.createElement(tag); if (cls) e.className = cls; if (text) e.textContent = text; return e; }
function button(text, title) { const b = el("button", "", text); b.type = "button"; if (title) b.title = title; return b; }
function group(name) { const g = el("span", "group"); g.append(el("b", "", name)); g.setAttribute("role", "group"); g.setAttribute("aria-label", name); return g; }
function checkbox(text) { const l = el("label"); l.input = el("input"); l.input.type = "checkbox"; l.append(l.input, text); return l; }
function float32(base64) { return new Float32Array(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer); }
