// The heads largest first. A row's name chooses the head; its two small buttons compare and mute it.
// One row at a time is in the tab order; the arrow keys walk, Enter chooses, c compares, m mutes.

export default function headRanking(mount) { return mounted(View, mount); }

class View {
  constructor(parent) {
    this.root = el("div", "hr");
    this.header = el("div", "head");
    this.list = el("ol");
    this.hint = el("div", "hint");
    for (const part of [["↑ ↓"], " walk  ", ["Enter"], " choose  ", ["c"], " compare  ", ["m"], " mute"]) {
      this.hint.append(Array.isArray(part) ? el("kbd", "", part[0]) : part);
    }
    this.root.append(this.header, this.list, this.hint);
    parent.append(this.root);
    this.list.addEventListener("click", (e) => this.click(e));
    this.list.addEventListener("keydown", (e) => this.key(e));
    this.list.addEventListener("focusin", (e) => this.makeCurrent(rowOf(e)));
  }
  close() { this.root.remove(); }

  update(data) {
    const shape = `${data.heads}/${data.quantity}/${data.order.join()}/${data.values.join()}/${data.deviations?.join()}`;
    if (shape !== this.shape) this.fill(data);
    this.shape = shape;
    this.root.style.height = `${data.height}px`;
    this.rows.forEach((row, k) => row.li.classList.toggle("faint", !!data.faint?.[k]));
    const chosen = new Set(data.picks.map(String)), muted = new Set(data.muted.map(String)), many = chosen.size > 1;
    this.rows.forEach((row, k) => {
      const id = String(row.head), on = chosen.has(id), off = muted.has(id), now = `${on} ${on && many} ${off}`;
      if (row.now === now) return; // hundreds of rows, of which a click changes two
      row.now = now;
      row.li.classList.toggle("on", on);
      row.li.classList.toggle("muted", off);
      row.pick.setAttribute("aria-pressed", on);
      row.compare.setAttribute("aria-pressed", on && many);
      row.mute.setAttribute("aria-pressed", off);
      row.mute.textContent = off ? "✕" : "⊘"; // ✕ marks a muted head, here as in the grid
      row.pick.setAttribute("aria-label", `Rank ${k + 1}: layer ${row.head[0]}, head ${row.head[1]}, ${data.quantity} ${row.text}${off ? ", muted" : ""}`);
    });
    const first = String(data.picks[0] ?? "");
    if (first === this.first) return;
    this.first = first; // bring the chosen row into view, unless the reader just clicked it there
    const k = this.rows.findIndex((row) => String(row.head) === first);
    if (k < 0) return;
    this.makeCurrent(k, false);
    const { offsetTop, offsetHeight } = this.rows[k].li, { scrollTop, clientHeight } = this.list;
    if (offsetTop < scrollTop || offsetTop + offsetHeight > scrollTop + clientHeight) this.list.scrollTop = offsetTop - clientHeight / 2;
  }

  fill(data) {
    const spread = data.deviations, most = Math.max(...data.values.map((v, k) => Math.abs(v) + (spread?.[k] ?? 0))) || 1, signed = data.values.some((v, k) => v - (spread?.[k] ?? 0) < 0);
    this.root.classList.toggle("spread", !!spread);
    this.header.replaceChildren(el("span", "rank", "#"), el("span", "", "head"), el("span"), el("span", "value", spread ? `${data.quantity} ±` : data.quantity), el("span"));
    this.rows = data.values.map((value, k) => {
      const head = [Math.floor(data.order[k] / data.heads), data.order[k] % data.heads], text = spread ? `${number(value)} ± ${few(spread[k], 2)}` : number(value);
      const li = el("li"), pick = button("pick", `L${head[0]} · H${head[1]}`), bar = el("span", signed ? "bar signed" : "bar");
      const fill = el("i", value < 0 ? "against" : ""), part = Math.abs(value) / most;
      fill.style.width = `${part * (signed ? 50 : 100)}%`;
      fill.style.left = signed ? (value < 0 ? `${50 - part * 50}%` : "50%") : "0";
      bar.append(fill);
      if (spread) bar.append(whisker(value / most, spread[k] / most, signed));
      const compare = button("tool", "+", "Compare: show this head beside the chosen one"), mute = button("tool", "⊘", "Mute: attribution without this head");
      const tools = el("span", "tools");
      tools.append(compare, mute);
      pick.tabIndex = compare.tabIndex = mute.tabIndex = -1;
      li.dataset.k = k;
      li.append(el("span", "rank", String(k + 1)), pick, bar, el("span", "value", text), tools);
      return { li, head, text, pick, compare, mute };
    });
    this.list.replaceChildren(...this.rows.map((row) => row.li));
    this.current = 0;
    this.first = null;
    this.makeCurrent(0, false);
  }

  makeCurrent(k) {
    if (k < 0 || !this.rows[k]) return;
    for (const name of ["pick", "compare", "mute"]) this.rows[this.current][name].tabIndex = -1;
    this.current = k;
    for (const name of ["pick", "compare", "mute"]) this.rows[k][name].tabIndex = 0;
  }

  click(e) {
    const row = this.rows[rowOf(e)];
    if (!row) return;
    const event = e.target === row.compare ? "compare" : e.target === row.mute ? "mute" : e.shiftKey ? "compare" : "pick";
    this.mount.setTriggerValue(event, row.head);
  }

  key(e) {
    const k = rowOf(e), row = this.rows[k];
    const to = { ArrowDown: k + 1, ArrowUp: k - 1, Home: 0, End: this.rows.length - 1, PageDown: k + 8, PageUp: k - 8 }[e.key];
    if (to !== undefined) {
      const next = Math.max(0, Math.min(this.rows.length - 1, to));
      this.makeCurrent(next);
      this.rows[next].pick.focus();
    } else if (e.key === "c" || e.key === "m") this.mount.setTriggerValue(e.key === "c" ? "compare" : "mute", row.head);
    else return;
    e.preventDefault();
  }
}

// The span of one standard deviation to both sides of the bar's end; parts of the widest bar.
function whisker(value, deviation, signed) {
  const line = el("span", "whisker"), at = (v) => (signed ? 50 + 50 * v : 100 * v), from = at(value - deviation);
  line.style.left = `${from}%`;
  line.style.width = `${at(value + deviation) - from}%`;
  return line;
}
function rowOf(e) { const li = e.target.closest("li"); return li ? Number(li.dataset.k) : -1; }
function el(tag, cls, text) { const e = document.createElement(tag); if (cls) e.className = cls; if (text) e.textContent = text; return e; }
function button(cls, text, title) { const b = el("button", cls, text); b.type = "button"; if (title) b.title = title, b.setAttribute("aria-label", title); return b; }
function number(v) { return (v < 0 ? "−" : v > 0 ? "+" : "") + few(Math.abs(v), 3); }
// So many digits that say something, the same for all: a column of them lines up.
function few(size, digits) {
  if (size === 0) return "0";
  return size < 0.001 ? size.toExponential(1).replace("-", "−") : size < 10 ** digits ? size.toPrecision(digits) : String(Math.round(size));
}
