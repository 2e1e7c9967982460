// The review: kept images, the most doubtful first, to accept, correct or delete; a queue for images without a label.

import { Api } from "./api.js";
import { Intake } from "./intake.js";
import { Keys } from "./keys.js";
import { drawFile } from "./picture.js";
import { Queue } from "./queue.js";
import { count, describeWarning, percent, sentence } from "./words.js";

const ON_PAGE = 24;
const MOST_FILES = 2000; // queued at a time
const AT_ONCE = 2;

const part = (id) => document.getElementById(id);
const keys = new Keys();
const api = new Api(keys);
const queue = new Queue(AT_ONCE);
let offset = 0;
let leaving = new AbortController();
let numEntries = 0;

async function load() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const query = { state: part("state").value, order: part("order").value, limit: ON_PAGE, offset };
  try {
    const reply = await api.review(query);
    if (!signal.aborted) show(reply, signal);
  } catch (error) {
    if (!signal.aborted) showProblem(`${sentence(error.message)}`);
  }
}

function show({ entries, total, counts, classes }, signal) {
  showProblem("");
  for (const option of part("state").options) {
    option.dataset.title ??= option.textContent;
    option.textContent = `${option.dataset.title} (${counts[option.value]})`;
  }
  part("entries").replaceChildren(...entries.map((entry) => draw(entry, classes[entry.model] ?? [], signal)));
  part("total").textContent = total === 0 ? "Nothing here." : count(total, "image");
  part("pager").hidden = total <= ON_PAGE && offset === 0;
  part("position").textContent = total === 0 ? "" : `${offset + 1} to ${offset + entries.length} of ${total}`;
  part("before").disabled = offset === 0;
  part("after").disabled = offset + entries.length >= total;
}

function draw(entry, classes, signal) {
  const element = part("entry-template").content.firstElementChild.cloneNode(true);
  const find = (name) => element.querySelector(`.${name}`);
  const nameOf = (id) => classes.find((label) => label.id === id)?.name ?? id;
  find("says").textContent = entry.label === null ? "No label yet" : `Labelled ${nameOf(entry.label)}`;
  find("facts").textContent =
    entry.predicted === null
      ? `${entry.model}: no answer of the model`
      : `${entry.model}, version ${entry.version}, says ${nameOf(entry.predicted)}, ${percent(entry.probability)}` +
        (entry.label === null || entry.label === entry.predicted || entry.label_probability === null
          ? ""
          : `; ${nameOf(entry.label)}, ${percent(entry.label_probability)}`);
  find("unlike").textContent = entry.warnings.map((code) => describeWarning(code).title).join(", ");
  const sender = entry.key === null ? "" : `, from ${entry.key}`;
  find("note").textContent = `${new Date(entry.created).toLocaleString()}${sender}${entry.note ? `: ${entry.note}` : ""}`;
  find("picture").setAttribute("aria-label", find("says").textContent);
  numEntries += 1;
  find("class").id = `class-${numEntries}`;
  find("class-label").htmlFor = find("class").id;
  const suggested = entry.label ?? entry.predicted;
  const offered = classes.length > 0 || suggested === null ? classes : [{ id: suggested, name: suggested }];
  find("class").replaceChildren(...offered.map(({ id, name }) => new Option(name, id)));
  if (suggested !== null) find("class").value = suggested;
  const title = () => (entry.label === null || find("class").value === entry.label ? "Accept" : "Correct");
  find("accept").textContent = title();
  find("class").addEventListener("change", () => (find("accept").textContent = title()));
  find("accept").addEventListener("click", () => act(element, () => api.decideReview(entry.id, find("class").value)));
  find("delete").addEventListener("click", () => act(element, () => api.deleteReview(entry.id)));
  queue.add(() => drawPicture(entry.id, element, signal), { signal });
  return element;
}

async function drawPicture(id, element, signal) {
  const size = await api
    .reviewImage(id, { signal })
    .then((blob) => drawFile(blob, element.querySelector(".picture"), signal))
    .catch(() => null);
  element.querySelector(".picture").hidden = size === null;
  element.querySelector(".no-picture").hidden = size !== null;
}

/** Send a decision; the entry goes, and the keyboard goes on at the next one. */
async function act(element, send) {
  const buttons = element.querySelectorAll("button, select");
  for (const button of buttons) button.disabled = true;
  try {
    await send();
  } catch (error) {
    for (const button of buttons) button.disabled = false;
    element.querySelector(".heat-error").textContent = sentence(error.message);
    element.querySelector(".heat-error").hidden = false;
    return;
  }
  const next = element.nextElementSibling ?? element.previousElementSibling;
  element.remove();
  if (next !== null) next.querySelector(".says").focus();
  else {
    offset = Math.max(0, offset - ON_PAGE);
    await load();
    (part("entries").querySelector(".says") ?? part("state")).focus();
  }
}

/** Queue files without a label, two at a time. */
function queueFiles(files) {
  if (!part("consent").checked) {
    showProblem("Consent is needed before images are kept: tick the box, then choose them again.");
    part("consent").focus();
    return;
  }
  showProblem(files.length > MOST_FILES ? `At most ${MOST_FILES} files at a time: ${files.length} were chosen.` : "");
  if (files.length > MOST_FILES) return;
  const done = { kept: 0, refused: [] };
  const texts = { consent: "true", ...(part("model").value ? { model: part("model").value } : {}) };
  const { signal } = new AbortController();
  for (const { file, name } of files) {
    queue.add(() => queueFile(file, name, texts, signal, done, files.length), { signal });
  }
}

async function queueFile(file, name, texts, signal, done, total) {
  try {
    await api.queueReview(file, texts, { signal });
    done.kept += 1;
  } catch (error) {
    done.refused.push(`${name}: ${error.message}`);
  }
  const number = done.kept + done.refused.length;
  const refused = done.refused.length > 0 ? `, ${done.refused.length} refused (${done.refused.slice(0, 3).join("; ")})` : "";
  part("queued").textContent = `${number < total ? `${number} of ${total}: ` : ""}${count(done.kept, "image")} queued${refused}.`;
  if (number === total) await load();
}

function showProblem(text) {
  part("problem").textContent = text;
  part("problem").hidden = text === "";
}

async function showModels() {
  const { body } = await api.readiness();
  const names = Object.keys(body.models ?? {}).sort();
  part("model").replaceChildren(...names.map((name) => new Option(name, name)));
  part("model").hidden = names.length < 2;
}

for (const id of ["state", "order"]) {
  part(id).addEventListener("change", () => {
    offset = 0;
    load();
  });
}
part("before").addEventListener("click", () => {
  offset = Math.max(0, offset - ON_PAGE);
  load();
});
part("after").addEventListener("click", () => {
  offset += ON_PAGE;
  load();
});
part("forget-key").addEventListener("click", () => keys.forget());
keys.addEventListener("change", () => (part("forget-key").hidden = keys.current === null));
part("forget-key").hidden = keys.current === null;
queue.setOpen(true);
new Intake(queueFiles);
showModels().catch(() => {});
load();
