// One image's answers by the live, the previous and the candidate version, side by side.

import { describeFailure, describeWarning, isDistrusted, percent } from "./words.js";

/**
 * Fill a table with each version's answer.
 *
 * @param {HTMLTableSectionElement} body its rows are replaced
 * @param {{role: string, version: number, reply?: object, error?: Error}[]} answers a reply of POST /v1/predict or an error
 */
export function showComparison(body, answers) {
  const first = answers[0].reply?.predictions[0].top[0].id;
  body.replaceChildren(...answers.map((answer) => row(answer, first)));
}

function row({ role, version, reply, error }, first) {
  const line = document.createElement("tr");
  const entry = reply?.predictions[0];
  const best = entry?.top[0];
  line.dataset.differs = best !== undefined && first !== undefined && best.id !== first;
  line.dataset.distrusted = entry !== undefined && isDistrusted(entry);
  const head = cell("th", `${role}, version ${version}`);
  head.scope = "row";
  const notes = entry?.warnings.map((code) => describeWarning(code).title) ?? [describeFailure(error)];
  if (line.dataset.differs === "true") notes.unshift("Another class");
  line.append(head, cell("td", best?.label ?? "No answer"), cell("td", best ? percent(best.probability) : ""));
  line.append(cell("td", notes.join(". ")));
  return line;
}

function cell(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
