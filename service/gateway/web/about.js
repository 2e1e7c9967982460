// What the page tells of the model, from its contract.

import { list, percent } from "./words.js";

/** Show a contract's facts, the precision that answers and the trial of the candidate, or nothing. */
export function showAbout(name, contract, hash, precision, trial) {
  const place = document.getElementById("about");
  place.hidden = contract === null;
  if (contract === null) return;
  document.getElementById("about-list").replaceChildren(...pairs([...facts(contract), ...tried(trial)]));
  document.getElementById("about-details").replaceChildren(...pairs(details(contract, hash, precision)));
  place.querySelector("summary").textContent = `About ${name}`;
}

function pairs(entries) {
  return entries
    .filter(([, value]) => value)
    .map(([term, value]) => {
      const [pair, dt, dd] = ["div", "dt", "dd"].map((name) => document.createElement(name));
      dt.textContent = term;
      dd.textContent = value;
      pair.append(dt, dd);
      return pair;
    });
}

function facts({ labels, provenance, operating_points: points, saliency }) {
  const { metrics, created, dataset } = provenance ?? {}; // an imported model has less to tell
  return [
    ["Classes", labels.length > 12 ? String(labels.length) : list(labels.map((label) => label.name))],
    ["Trained on", dataset],
    ["Accuracy", measured(metrics ?? {})],
    ["Other metrics", others(metrics ?? {})],
    ["Thresholds", list((points ?? []).map(({ label, threshold }) => `${label} from ${percent(threshold)}`))],
    ["Heat maps", saliency ? "" : "none"],
    ["Made", created ? new Date(created).toLocaleDateString(undefined, { dateStyle: "long" }) : ""],
  ];
}

/** Return what is said of a candidate that gets live traffic: shares, why it was stopped, what this gateway found. */
function tried(trial) {
  if (trial === null) return [];
  const { version, shadow, canary, stopped, found } = trial;
  const parts = [
    shadow > 0 ? `is asked ${percent(shadow)} of the requests too` : "",
    canary > 0 ? `answers ${percent(canary)} of the requests` : "",
    stopped === null ? "" : `canary stopped by ${stopped}`,
    found.shadow?.images ? `same class in ${percent(found.shadow.agreement)} of ${found.shadow.images} images` : "",
    found.canary ? `${found.canary.answers} answers and ${found.canary.errors} errors as canary` : "",
  ];
  const said = parts.filter(Boolean).join("; ");
  return [["Candidate on trial", said ? `Version ${version}: ${said}` : ""]];
}

function details({ input, provenance }, hash, precision) {
  const color = input.color === "grey" ? "grey" : "colour";
  return [
    ["Network", provenance?.backbone],
    ["Sees", `${input.width} × ${input.height} pixels in ${color}`],
    ["Computed at", precision],
    ["Contract", hash],
  ];
}

function others({ accuracy, images, ...metrics }) {
  const numbers = Object.entries(metrics).filter(([, value]) => typeof value === "number");
  return numbers.map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(3)}`).join(", ");
}

/** Return the accuracy with the test images and, where the contract has it, the 95 % interval. */
function measured({ accuracy, images, accuracy_interval: interval }) {
  if (typeof accuracy !== "number") return "";
  const range = Array.isArray(interval) ? `, 95 % interval ${interval.map(percent).join(" to ")}` : "";
  return `${percent(accuracy)}${images ? ` of ${images} test images` : ""}${range}`;
}
