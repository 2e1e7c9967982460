"use strict";
// Sorts the table of runs and puts chosen ones side by side. Texts become text nodes, never markup.

const MOST_IMAGES = 200;
const entries = JSON.parse(document.getElementById("data").textContent);
const part = (id) => document.getElementById(id);
const titleOf = (entry) => `${entry.model} ${entry.version === null ? entry.run : `version ${entry.version}`}`;

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  element.className = className;
  return element;
}

function fill(table, head, rows) {
  const row = (cells, tag) => {
    const line = make("tr");
    cells.forEach((cell, i) => line.append(cell instanceof Node ? cell : make(i === 0 ? "th" : tag, cell, "text")));
    return line;
  };
  const [thead, tbody] = [make("thead"), make("tbody")];
  thead.append(row(head, "th"));
  tbody.append(...rows.map((cells) => row(cells, "td")));
  table.replaceChildren(thead, tbody);
}

function sortBy(button) {
  const head = button.closest("th");
  const column = head.cellIndex;
  const rises = head.getAttribute("aria-sort") === "descending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", rises ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const compare = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
  const order = (a, b) => (isFinite(key(a)) && isFinite(key(b)) ? key(a) - key(b) : compare(a, b));
  const body = part("runs").tBodies[0];
  body.append(...[...body.rows].sort((a, b) => (rises ? order(a, b) : order(b, a))));
}

function chosen() {
  return [...part("runs").querySelectorAll("input:checked")].map((box) => entries[Number(box.value)]);
}

function compare() {
  const picked = chosen();
  const head = ["", ...picked.map(titleOf)];
  const names = (field) => [...new Set(picked.flatMap((entry) => Object.keys(entry[field])))];
  fill(part("metrics"), head, names("metrics").map((name) => [name.replaceAll("_", " "), ...picked.map((e) => figure(e.metrics[name]))]));
  const differing = names("recipe").filter((name) => new Set(picked.map((entry) => entry.recipe[name])).size > 1);
  fill(part("recipe"), head, differing.map((name) => [name, ...picked.map((entry) => entry.recipe[name] ?? "–")]));
  if (differing.length === 0) part("recipe").replaceChildren(make("caption", "The recipes are the same."));
  showKey(picked);
  part("curves").replaceChildren(...["val_loss", "val_accuracy", "loss", "accuracy"].map((name) => draw(name, picked)));
  showChanged(picked);
  part("comparison").hidden = false;
  part("comparison-title").focus();
}

function figure(metric) {
  if (metric === undefined) return "–";
  const range = metric.interval ? ` (${metric.interval.map((value) => value.toFixed(3)).join(" to ")})` : "";
  return metric.value.toFixed(4) + range;
}

function showKey(picked) {
  const labels = picked.map((entry, i) => {
    const label = make("label");
    const line = make("span");
    line.style.background = `var(--c${i % 5})`;
    label.append(line, `${titleOf(entry)} `);
    return label;
  });
  part("key").replaceChildren(...labels);
}

function draw(name, picked) {
  const svg = (tag, attributes, text = "") => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return element;
  };
  const title = name.replace("val_", "validation ");
  const root = svg("svg", { viewBox: "0 0 480 260", role: "img", "aria-label": `${title} by epoch` });
  const lines = picked.map((entry) => entry.curves[name].filter((value) => typeof value === "number"));
  const values = lines.flat();
  root.append(svg("text", { x: 12, y: 20 }, title));
  if (values.length === 0) {
    root.append(svg("text", { x: 200, y: 130 }, "no curve"));
    return root;
  }
  const [low, high, longest] = [Math.min(...values), Math.max(...values), Math.max(...lines.map((line) => line.length))];
  const x = (i) => 56 + (longest < 2 ? 0 : (i / (longest - 1)) * 408);
  const y = (value) => 226 - (high === low ? 0.5 : (value - low) / (high - low)) * 190;
  for (const value of high === low ? [low] : [low, high]) root.append(svg("text", { x: 8, y: y(value) + 4 }, value.toFixed(3)));
  root.append(svg("text", { x: 56, y: 250 }, "epoch 1"), svg("text", { x: 464, y: 250, "text-anchor": "end" }, String(longest)));
  lines.forEach((line, i) => {
    const points = line.map((value, at) => `${x(at)},${y(value)}`).join(" ");
    const shape = svg("polyline", { points, fill: "none", "stroke-width": 2 });
    shape.style.stroke = `var(--c${i % 5})`;
    root.append(shape, ...line.map((value, at) => {
      const dot = svg("circle", { cx: x(at), cy: y(value), r: 2.5 });
      dot.style.fill = `var(--c${i % 5})`;
      return dot;
    }));
  });
  return root;
}

function showChanged(picked) {
  const known = picked.filter((entry) => entry.predictions !== null);
  part("changed").replaceChildren();
  if (known.length < 2) {
    part("changed-note").textContent = "Fewer than two of these have their predictions here.";
    return;
  }
  const common = Object.keys(known[0].predictions).filter((path) => known.every((entry) => path in entry.predictions));
  const changed = common.filter((path) => new Set(known.map((entry) => entry.predictions[path][1])).size > 1);
  const more = changed.length > MOST_IMAGES ? `; the first ${MOST_IMAGES} are shown` : "";
  part("changed-note").textContent = `${changed.length} of ${common.length} test images in common${more}.`;
  const rows = changed.slice(0, MOST_IMAGES).map((path) => {
    const label = known[0].predictions[path][0];
    const calls = known.map((entry) => entry.predictions[path][1]);
    return [path, label, ...calls.map((call) => make("td", call === label ? call : `${call} (wrong)`, call === label ? "text" : "text wrong"))];
  });
  if (rows.length > 0) fill(part("changed"), ["image", "labelled", ...known.map(titleOf)], rows);
}

if (part("runs") !== null) {
  for (const button of part("runs").tHead.querySelectorAll("button")) button.addEventListener("click", () => sortBy(button));
  part("runs").addEventListener("change", () => {
    const number = chosen().length;
    part("compare").disabled = number < 2;
    part("chosen").textContent = number < 2 ? "Tick two or more." : `${number} chosen.`;
  });
  part("compare").addEventListener("click", compare);
}
