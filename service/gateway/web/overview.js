// Many images at once: counts by class that filter, a table in a chosen order, and one card at a time.

import { describeFailure, describeWarning, isDistrusted, percent } from "./words.js";

const FEW = 6; // images that are shown as cards at once
const THUMBNAIL = 112; // pixels of a side

export class Overview {
  #rows = new Map(); // of each card
  #list = []; // cards, the newest batch first
  #filter = "all";
  #chosen = null; // "cards" or "table" once the user has chosen or there are many
  #opened = null;
  #planned = false;

  constructor() {
    place("order").addEventListener("change", () => this.#plan());
    place("layout").addEventListener("click", () => {
      this.#chosen = this.#isTable ? "cards" : "table";
      this.#plan();
    });
    place("back").addEventListener("click", () => this.#close());
    place("before").addEventListener("click", () => this.#step(-1));
    place("after").addEventListener("click", () => this.#step(1));
  }

  /** Show new cards before the others, in their own order. */
  add(cards) {
    this.#list.unshift(...cards);
    if (this.#list.length > FEW) this.#chosen ??= "table"; // and stays one when images are removed
    place("cards").prepend(...cards.map((card) => card.element));
    for (const card of cards) {
      const row = new Row(card, () => this.#open(card));
      this.#rows.set(card, row);
      for (const name of ["state", "picture"]) {
        card.addEventListener(name, () => {
          row.isStale = true;
          this.#plan();
        });
      }
    }
    this.#apply();
  }

  /** Leave a card out; the keyboard goes on at the next one. */
  remove(card) {
    const shown = this.#shown;
    const at = shown.indexOf(card);
    const next = shown[at + 1] ?? shown[at - 1] ?? null;
    this.#list = this.#list.filter((other) => other !== card);
    this.#rows.delete(card);
    const wasOpened = this.#opened === card;
    if (this.#list.length === 0) [this.#chosen, this.#filter] = [null, "all"];
    if (wasOpened && next !== null) this.#open(next);
    else if (wasOpened) this.#close();
    else this.#apply();
    const control = next?.element.querySelector(".remove");
    if (!wasOpened) (control?.checkVisibility() ? control : place("choose")).focus();
  }

  /** Leave all cards out. */
  clear() {
    this.#list = [];
    this.#rows.clear();
    [this.#chosen, this.#filter, this.#opened] = [null, "all", null];
    this.#apply();
  }

  get #isTable() {
    return this.#chosen === "table";
  }

  /** The cards that pass the filter, in the chosen order. */
  get #shown() {
    const cards = this.#list.filter((card) => keysOf(card).includes(this.#filter));
    const rank = ORDERS[place("order").value];
    return rank === undefined ? cards : cards.sort((a, b) => rank(a) - rank(b));
  }

  #open(card) {
    this.#opened = card;
    this.#apply();
    card.element.querySelector(".name").focus();
  }

  #close() {
    const button = this.#rows.get(this.#opened)?.button;
    this.#opened = null;
    this.#apply();
    (button?.isConnected ? button : place("layout")).focus();
  }

  #step(by) {
    const shown = this.#shown;
    const next = shown[shown.indexOf(this.#opened) + by];
    if (next !== undefined) this.#open(next);
  }

  /** Draw before the next frame, once: many answers may come in one. */
  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    requestAnimationFrame(() => this.#apply());
  }

  #apply() {
    this.#planned = false;
    const chips = countKeys(this.#list);
    if (!chips.some(({ key }) => key === this.#filter)) this.#filter = "all";
    const [isTable, shown] = [this.#isTable, this.#shown];
    if (!isTable) this.#opened = null;
    const opened = this.#opened;
    place("overview").hidden = this.#list.length < 2 || opened !== null;
    place("layout").textContent = isTable ? "Show as cards" : "Show as table";
    place("table").hidden = !isTable || opened !== null;
    place("one").hidden = opened === null;
    place("cards").hidden = isTable && opened === null;
    const visible = new Set(opened === null ? shown : [opened]);
    for (const card of this.#list) card.element.hidden = !visible.has(card);
    arrange(place("cards"), shown.map((card) => card.element));
    this.#drawChips(chips);
    if (isTable && opened === null) {
      const rows = shown.map((card) => this.#rows.get(card));
      for (const row of rows) row.draw();
      arrange(place("rows"), rows.map((row) => row.element));
      for (const child of [...place("rows").children].slice(rows.length)) child.remove();
    }
    const at = shown.indexOf(opened);
    place("before").disabled = at <= 0;
    place("after").disabled = at < 0 || at === shown.length - 1;
    place("position").textContent = at < 0 ? "" : `${at + 1} of ${shown.length}`;
  }

  #drawChips(chips) {
    const group = place("chips");
    const focused = group.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    const buttons = chips.map(({ key, title, number }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "chip";
      button.dataset.key = key;
      button.setAttribute("aria-pressed", key === this.#filter);
      button.append(textElement("span", title), " ", textElement("b", String(number)));
      button.addEventListener("click", () => {
        this.#filter = key;
        this.#apply();
      });
      return button;
    });
    group.replaceChildren(...buttons);
    buttons.find((button) => button.dataset.key === focused)?.focus();
  }
}

/** One image in the table. */
class Row {
  isStale = true;
  element = document.createElement("tr");
  button = document.createElement("button");
  #card;
  #thumbnail = document.createElement("canvas");
  #cells = ["class", "probability", "notes"].map((name) => {
    const cell = document.createElement("td");
    cell.className = name;
    return cell;
  });

  constructor(card, open) {
    this.#card = card;
    this.button.type = "button";
    this.button.textContent = card.name;
    this.button.addEventListener("click", open);
    this.#thumbnail.width = this.#thumbnail.height = THUMBNAIL;
    this.#thumbnail.setAttribute("aria-hidden", "true");
    this.#thumbnail.addEventListener("click", open);
    const head = document.createElement("th");
    head.scope = "row";
    head.append(this.#thumbnail, this.button);
    this.element.append(head, ...this.#cells);
  }

  draw() {
    if (!this.isStale) return;
    this.isStale = false;
    const { state, result, error } = this.#card;
    const [name, probability, notes] = this.#cells;
    const best = state === "done" ? result.entry.top[0] : null;
    this.element.dataset.state = state;
    this.element.dataset.distrusted = best !== null && isDistrusted(result.entry);
    name.textContent = best?.label ?? (state === "failed" ? "Failed" : "Waiting");
    probability.textContent = best === null ? "" : percent(best.probability);
    if (state === "failed") notes.textContent = describeFailure(error);
    else notes.textContent = (result?.entry.warnings ?? []).map((code) => describeWarning(code).title).join(", ");
    this.#card.paintThumbnail(this.#thumbnail);
  }
}

const isDone = ({ state }) => state === "done";
const topOf = ({ result }) => result.entry.top;
const margin = (top) => top[0].probability - (top[1]?.probability ?? 0);
// An answer that says nothing is the least certain; images without an answer come last.
const ORDERS = {
  confidence: (card) => (isDone(card) ? (isDistrusted(card.result.entry) ? 2 : -topOf(card)[0].probability) : 3),
  uncertainty: (card) => (isDone(card) ? (isDistrusted(card.result.entry) ? -1 : margin(topOf(card))) : 3),
};

/** Return the filters that a card passes. */
function keysOf(card) {
  if (card.state === "failed") return ["all", "failed"];
  if (!isDone(card)) return ["all"];
  const { entry } = card.result;
  return ["all", ...(entry.warnings.length > 0 ? ["warned"] : []), `class ${entry.top[0].id}`];
}

/** Return each filter that some card passes, its title, and the number of such cards: classes by falling number. */
function countKeys(cards) {
  const counts = new Map();
  const titles = { all: "All", failed: "Failed", warned: "With a warning" };
  for (const card of cards) {
    for (const key of keysOf(card)) {
      counts.set(key, (counts.get(key) ?? 0) + 1);
      titles[key] ??= topOf(card)[0].label;
    }
  }
  const fixed = ["all", "failed", "warned"].filter((key) => counts.has(key));
  const classes = [...counts.keys()].filter((key) => !fixed.includes(key));
  classes.sort((a, b) => counts.get(b) - counts.get(a) || titles[a].localeCompare(titles[b]));
  return [...fixed, ...classes].map((key) => ({ key, title: titles[key], number: counts.get(key) }));
}

/** Bring a parent's first children into an order; those in place stay, so that nothing loses the keyboard. */
function arrange(parent, elements) {
  elements.forEach((element, i) => {
    if (parent.children[i] !== element) parent.insertBefore(element, parent.children[i] ?? null);
  });
}

function place(id) {
  return document.getElementById(id);
}

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
