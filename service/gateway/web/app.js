// The page: images come in, go to the gateway a few at a time, and are shown with what it answers.

import { showAbout } from "./about.js";
import { Api } from "./api.js";
import { Card } from "./card.js";
import { Intake } from "./intake.js";
import { Keys } from "./keys.js";
import { Models } from "./models.js";
import { Overview } from "./overview.js";
import { Queue } from "./queue.js";
import { Service } from "./service.js";
import { saveTable } from "./table.js";
import { count, describeFailure, describeWarning, percent, sentence, withCode } from "./words.js";

const AT_ONCE = 2;
const MAX_CARDS = 200;
const MAX_CLASSES = 5; // shown of each image
const UNKNOWN = { input: { width: 1, height: 1, fit: "stretch" } }; // a version that is no longer live; most stretch

const part = (id) => document.getElementById(id);
const keys = new Keys();
const api = new Api(keys);
const service = new Service(api);
const models = new Models(api);
const queue = new Queue(AT_ONCE);
const overview = new Overview();
const cards = new Set();

/** Put new images first on the page, in their own order, and send them. */
function addImages(files) {
  const room = Math.max(0, MAX_CARDS - cards.size);
  const added = files.slice(0, room).map(({ file, name }) => new Card(file, name));
  overview.add(added);
  for (const card of added) addCard(card);
  showNote(
    files.length <= room
      ? ""
      : `The page holds ${MAX_CARDS} images at a time: ${count(files.length - room, "image")} left out. ` +
          "Remove some, or use the API for more.",
  );
}

function addCard(card) {
  cards.add(card);
  card.addEventListener("state", showSummary);
  card.addEventListener("again", () => classifyLater(card));
  card.addEventListener("explain", () => queue.add(() => explain(card), { signal: card.signal, first: true }));
  card.addEventListener("compare", () => queue.add(() => compare(card), { signal: card.signal, first: true }));
  card.addEventListener("correct", () => correct(card));
  card.addEventListener("undo", () => takeBack(card));
  card.addEventListener("remove", () => {
    card.remove();
    cards.delete(card);
    showSummary();
    overview.remove(card);
  });
  classifyLater(card);
}

/** Show the heat map of every image that has one, or hide them. */
function toggleMaps() {
  const opens = part("all-maps").getAttribute("aria-pressed") !== "true";
  part("all-maps").setAttribute("aria-pressed", opens);
  for (const card of cards) {
    if (card.canExplain) card.openMap(opens);
  }
}

function classifyLater(card) {
  card.showWaiting(service.state === "ready" ? "Waiting" : "Waiting for the service");
  queue.add(() => classify(card), { signal: card.signal });
}

async function classify(card) {
  const query = {};
  if (models.chosen !== null) query.model = models.chosen;
  if (models.role !== "live") query.label = models.role;
  if (models.contract !== null) query.top = Math.min(MAX_CLASSES, models.contract.labels.length);
  card.showSending();
  try {
    const reply = await predict(card, query);
    card.showResult(reply, models.contractOf(reply.model));
    card.offerComparison(models.rolesOf(reply.model.name).length > 1);
    announce(card);
  } catch (error) {
    if (card.signal.aborted) return;
    card.showError(error);
    announce(card);
    service.refresh();
  }
}

async function predict(card, query) {
  const options = {
    signal: card.signal,
    onWait: (seconds) => card.showWaiting(`The service is busy; again in ${count(Math.ceil(seconds), "second")}`),
  };
  try {
    return await api.predict(card.file, query, options);
  } catch (error) {
    // A version with fewer classes may have become live since this page asked how many there are.
    const { top, ...rest } = query;
    if (error.status !== 422 || top === undefined) throw error;
    return api.predict(card.file, rest, options);
  }
}

async function explain(card) {
  const classId = card.chosenClass;
  const { name, version } = card.result.model;
  const query = { model: name, version, class: classId };
  try {
    if (await card.hasPicture()) {
      const { model, explanations } = await api.explain(card.file, query, { signal: card.signal });
      const { input } = models.contractOf(model) ?? UNKNOWN;
      if (card.wantsMap(classId)) card.showMap(explanations[0].saliency, input);
    } else {
      const png = await api.drawExplanation(card.file, query, { signal: card.signal });
      if (card.wantsMap(classId)) await card.showDrawnMap(png);
    }
  } catch (error) {
    if (!card.signal.aborted && card.wantsMap(classId)) card.showMapError(error);
  }
}

/** Send the class that the user says is right. */
async function correct(card) {
  const { model, requestId } = card.result;
  const texts = { label: card.rightClass, consent: "true", model: model.name, version: model.version };
  try {
    const kept = await api.giveFeedback(card.file, { ...texts, request_id: requestId }, { signal: card.signal });
    card.showCorrection("Kept for review and the next training.", kept.id);
  } catch (error) {
    if (!card.signal.aborted) card.showCorrection(`Not kept. ${sentence(error.message)}`, null);
  }
}

async function takeBack(card) {
  try {
    await api.deleteFeedback(card.feedbackId, { signal: card.signal });
    card.showCorrection("Taken back.", null);
  } catch (error) {
    if (!card.signal.aborted) card.showCorrection(`Not taken back. ${sentence(error.message)}`, card.feedbackId);
  }
}

/** Ask each version of the card's model, one after the other. */
async function compare(card) {
  const { name } = card.result.model;
  card.showComparing();
  const answers = [];
  for (const { role, version } of models.rolesOf(name)) {
    try {
      const reply = await api.predict(card.file, { model: name, version, top: 1 }, { signal: card.signal });
      answers.push({ role, version, reply });
    } catch (error) {
      if (card.signal.aborted) return;
      answers.push({ role, version, error });
    }
  }
  card.showComparison(answers);
}

/** Tell screen readers. */
function announce({ name, state, result, error }) {
  part("announcer").textContent = `${name}: ${state === "done" ? describeAnswer(result.entry) : describeFailure(error)}`;
}

function describeAnswer({ warnings, top: [best] }) {
  const titles = warnings.map((code) => `${describeWarning(code).title}; `);
  return `${titles.join("")}most probable ${best.label}, ${percent(best.probability)}`;
}

function showSummary() {
  const states = [...cards].map((card) => card.state);
  const number = (...wanted) => states.filter((state) => wanted.includes(state)).length;
  const [waiting, failed] = [number("waiting", "sending"), number("failed")];
  part("results").hidden = cards.size === 0;
  document.body.classList.toggle("has-results", cards.size > 0);
  part("save").disabled = waiting === cards.size;
  part("all-maps").hidden = [...cards].filter((card) => card.canExplain).length < 2;
  if (cards.size === 0) part("all-maps").setAttribute("aria-pressed", "false");
  part("summary").textContent = [
    count(cards.size, "image"),
    waiting > 0 ? `${waiting} to go` : "",
    failed > 0 ? `${failed} failed` : "",
  ]
    .filter(Boolean)
    .join(", ");
}

function showNote(text) {
  part("intake-note").textContent = text;
  part("intake-note").hidden = text === "";
}

const STATES = {
  ready: "Ready",
  waiting: "Not ready",
  unreachable: "The service does not answer",
};

function showService() {
  queue.setOpen(service.state === "ready");
  part("state").dataset.state = service.state;
  part("state-text").textContent = STATES[service.state];
  part("waiting").hidden = service.state !== "waiting";
  const titles = { no_model: "No model yet", no_live_version: "No live version" };
  part("waiting-title").textContent = titles[service.code] ?? "Not ready yet";
  part("waiting-text").replaceChildren(...withCode(sentence(service.message)));
  if (service.state === "ready") models.update(service.models);
}

function showModel() {
  hide(part("key-needed"), !models.keyNeeded);
  showAbout(models.chosen, models.contract, models.hash, models.precision, models.trial);
  for (const card of cards) {
    if (card.state === "done") card.offerComparison(models.rolesOf(card.result.model.name).length > 1);
  }
}

/** Hide or show an element; a keyboard that was in it goes on at the page's first control. */
function hide(element, hidden) {
  if (hidden && element.contains(document.activeElement)) part("choose").focus();
  element.hidden = hidden;
}

service.addEventListener("change", showService);
service.addEventListener("asked", () => models.refresh());
models.addEventListener("change", showModel);
keys.addEventListener("change", () => {
  hide(part("forget-key"), keys.current === null);
  if (models.chosen !== null) models.learn(models.chosen);
});
part("forget-key").addEventListener("click", () => keys.forget());
part("enter-key").addEventListener("click", () => keys.ask(keys.current));
part("save").addEventListener("click", () => saveTable([...cards]));
part("all-maps").addEventListener("click", toggleMaps);
part("clear").addEventListener("click", () => {
  for (const card of cards) card.remove();
  cards.clear();
  overview.clear();
  showSummary();
  part("choose").focus();
});
part("forget-key").hidden = keys.current === null;
new Intake(addImages);
api
  .features()
  .then(({ feedback }) => {
    document.body.dataset.feedback = feedback === true;
    part("review-link").hidden = feedback !== true;
  })
  .catch(() => {}); // the state in the head says that the service does not answer
service.refresh();
