// Items that lie in several panes: the sources of a scope (prompt, thought, response), the targets of a response beside
// its thought. One Painter a pane; whoever asks counts units and items as one sequence.

class Spread {
  constructor(scrollers) {
    this.painters = scrollers.map((scroller) => new Painter(scroller));
    Object.assign(this, { units: [], items: [] });
  }

  // paneOf: for every unit the number of its pane
  place(units, paneOf) {
    Object.assign(this, { units, paneOf, members: this.painters.map(() => []) });
    for (let u = 0; u < units.length; u++) this.members[paneOf[u]].push(u);
    this.painters.forEach((painter, p) => { painter.units = this.members[p].map((u) => units[u]); });
  }

  // items: [{first, last}] unit indices, in reading order; each lies in one pane
  setItems(items) {
    this.items = items;
    this.own = this.painters.map(() => []); // for each pane the numbers of its items
    items.forEach((item, i) => this.own[this.paneOf[item.first]].push(i));
    this.painters.forEach((painter, p) => painter.setItems(this.own[p].map((i) => this.part(p, items[i]))));
  }

  // What a pane has of a run of units, in its own count; null if nothing.
  part(p, { first, last }) {
    const members = this.members[p], from = lowerBound(members, first), to = lowerBound(members, last + 1) - 1;
    return from <= to ? { first: from, last: to } : null;
  }

  moved() { for (const painter of this.painters) painter.moved(); }
  paint(levels, margin, ahead) {
    this.painters.forEach((painter, p) => {
      const own = this.own[p], count = own.length;
      if (!count) return;
      const together = own[count - 1] - own[0] === count - 1;
      painter.paint(levels && (together ? levels.subarray(own[0], own[0] + count) : Int8Array.from(own, (i) => levels[i])), margin, ahead);
    });
  }
  mark(name, run) { this.painters.forEach((painter, p) => painter.mark(name, run && this.part(p, run))); }

  paneOfItem(i) { return this.paneOf[this.items[i].first]; }
  inView(i) {
    const p = this.paneOfItem(i);
    return this.painters[p].inView(lowerBound(this.own[p], i));
  }
  bring(item, behavior) {
    const p = this.paneOf[item.first];
    bringTo(this.painters[p], this.part(p, item), behavior);
  }
  flash(item) {
    const p = this.paneOf[item.first];
    flash(this.painters[p], this.part(p, item));
  }
  // The painter of a pane, and the numbers of the items in it.
  at(scroller) {
    const p = this.painters.findIndex((painter) => painter.scroller === scroller);
    return { painter: this.painters[p], own: this.own[p] };
  }
}
