// What the page tells of the model, from its contract.

import { list, percent } from "./words.js";

/** Show a contract's facts, or nothing. */
export function showAbout(name, contract) {
  const place = document.getElementById("about");
  place.hidden = contract === null;
  if (contract === null) return;
  const entries = facts(contract).filter(([, value]) => value);
  const rows = entries.map(([term, value]) => {
    const [pair, dt, dd] = ["div", "dt", "dd"].map((name) => document.createElement(name));
    dt.textContent = term;
    dd.textContent = value;
    pair.append(dt, dd);
    return pair;
  });
  document.getElementById("about-list").replaceChildren(...rows);
  place.querySelector("summary").textContent = `About ${name}`;
}

function facts({ labels, input, provenance, operating_points: points, saliency }) {
  const { metrics, created, dataset, backbone } = provenance ?? {}; // an imported model has less to tell
  const color = input.color === "grey" ? "grey" : "colour";
  return [
    ["Classes", labels.length > 12 ? String(labels.length) : list(labels.map((label) => label.name))],
    ["Trained on", dataset],
    ["Accuracy", measured(metrics ?? {})],
    ["Other metrics", others(metrics ?? {})],
    ["Network", backbone],
    ["Sees", `${input.width} × ${input.height} pixels in ${color}`],
    ["Thresholds", list((points ?? []).map(({ label, threshold }) => `${label} from ${percent(threshold)}`))],
    ["Heat maps", saliency ? "" : "none"],
    ["Made", created ? new Date(created).toLocaleDateString(undefined, { dateStyle: "long" }) : ""],
  ];
}

function others({ accuracy, images, ...metrics }) {
  const numbers = Object.entries(metrics).filter(([, value]) => typeof value === "number");
  return numbers.map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(3)}`).join(", ");
}

function measured({ accuracy, images }) {
  if (typeof accuracy !== "number") return "";
  return `${percent(accuracy)}${images ? ` of ${images} test images` : ""}`;
}
