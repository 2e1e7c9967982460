// One image on the page: its picture, what the model says of it, where the model looked, or why there is no answer.

import { showComparison } from "./comparison.js";
import { drawFile, paintHeat } from "./picture.js";
import {
  describeDecision,
  describeFailure,
  describeRest,
  describeWarning,
  isDistrusted,
  percent,
  sentence,
} from "./words.js";

const FINAL = [400, 413, 415, 422]; // the same image would be refused again

let cards = 0;

export class Card extends EventTarget {
  /** Once there is an answer: {model, entry, contract, requestId}, parts of the reply and the version's contract. */
  result = null;
  error = null;
  #element;
  #size = null;
  #drawn;
  #stop = new AbortController();

  /**
   * @param {File} file the image
   * @param {string} name what to call it
   */
  constructor(file, name) {
    super();
    this.file = file;
    this.name = name;
    this.#element = document.getElementById("card-template").content.firstElementChild.cloneNode(true);
    this.#part("name").textContent = name;
    this.#part("remove").setAttribute("aria-label", `Remove ${name}`);
    this.#part("picture").setAttribute("aria-label", name);
    this.#part("remove").addEventListener("click", () => this.dispatchEvent(new Event("remove")));
    this.#part("again").addEventListener("click", () => {
      this.#part("name").focus(); // the button is about to go
      this.dispatchEvent(new Event("again"));
    });
    this.#part("explain").addEventListener("click", () => this.openMap(!this.isMapOpen));
    this.#part("heat-class").addEventListener("change", () => this.#askForMap());
    this.#part("send-correction").addEventListener("click", () => this.#sendCorrection());
    this.#part("undo-correction").addEventListener("click", () => this.dispatchEvent(new Event("undo")));
    this.#part("compare").addEventListener("click", () => this.dispatchEvent(new Event("compare")));
    this.#part("strength").addEventListener("input", () => this.#blend());
    cards += 1;
    this.#link("class-label", "heat-class");
    this.#link("strength-label", "strength");
    this.#link("right-class-label", "right-class");
    this.#link("consent-label", "consent-box");
    this.#drawn = this.#draw();
  }

  get element() {
    return this.#element;
  }

  /** Fires when the card is removed: what is under way for it ends. */
  get signal() {
    return this.#stop.signal;
  }

  get state() {
    return this.#element.dataset.state;
  }

  /** The id of the class to explain. */
  get chosenClass() {
    return this.#part("heat-class").value;
  }

  get isMapOpen() {
    return this.#part("explain").getAttribute("aria-expanded") === "true";
  }

  /** Whether the version that answered draws heat maps. */
  get canExplain() {
    return this.state === "done" && !this.#part("explain").hidden;
  }

  /** Return whether the heat map of a class is still wanted: it may have been hidden, or another class chosen. */
  wantsMap(classId) {
    return this.isMapOpen && this.chosenClass === classId;
  }

  /** Wait until the picture is drawn; returns whether this browser can show it. */
  async hasPicture() {
    await this.#drawn;
    return this.#size !== null;
  }

  /** Take the card off the page. */
  remove() {
    this.#stop.abort();
    this.#element.remove();
  }

  /** Show that the image waits for its turn, or for the service. */
  showWaiting(text = "Waiting") {
    this.#become("waiting");
    this.#part("progress-text").textContent = text;
  }

  /** Show that the image is with the service. */
  showSending() {
    this.#become("sending");
    this.#part("progress-text").textContent = "Classifying";
  }

  /**
   * Show an answer.
   *
   * @param {object} reply of POST /v1/predict for this image alone
   * @param {object | null} contract of the version that answered, if it is known
   */
  showResult(reply, contract) {
    const [entry] = reply.predictions;
    this.result = { model: reply.model, entry, contract, requestId: reply.request_id };
    const [best] = entry.top;
    this.#part("top-label").textContent = best.label;
    this.#element.dataset.distrusted = isDistrusted(entry);
    this.#part("warnings").replaceChildren(...entry.warnings.map(warning));
    this.#part("decision").replaceChildren(...(entry.decision ?? []).map(decision));
    this.#part("bars").replaceChildren(...entry.top.map(bar));
    const numRest = contract === null ? 0 : contract.labels.length - entry.top.length;
    this.#part("more-classes").hidden = numRest === 0;
    this.#part("more-classes").textContent = describeRest(numRest);
    const { name, version } = reply.model;
    this.#part("origin").textContent = `Model ${name}, version ${version}`;
    this.#part("heat-class").replaceChildren(...entry.top.map(({ id, label }) => new Option(label, id)));
    this.#part("explain").hidden = contract !== null && !contract.saliency;
    const classes = contract?.labels.map(({ id, name }) => ({ id, label: name })) ?? entry.top;
    this.#part("right-class").replaceChildren(...classes.map(({ id, label }) => new Option(label, id)));
    this.#part("right-class").value = entry.top[0].id;
    this.showCorrection("", null);
    this.#become("done");
  }

  /** The id of the class that the user says is right. */
  get rightClass() {
    return this.#part("right-class").value;
  }

  /** The id under which the service keeps the correction, null if it keeps none. */
  feedbackId = null;

  /**
   * Show what became of a correction.
   *
   * @param {string} text
   * @param {string | null} id under which it is kept; null if it is not
   */
  showCorrection(text, id) {
    this.feedbackId = id;
    this.#part("correction-state").textContent = text;
    for (const name of ["send-correction", "right-class", "consent-box"]) this.#part(name).disabled = id !== null;
    this.#part("undo-correction").hidden = id === null;
  }

  /** Offer the comparison of versions where there are several. */
  offerComparison(several) {
    this.#part("compare").hidden = !several;
  }

  /** Show that versions are asked. */
  showComparing() {
    this.#part("compare").disabled = true;
    this.#part("compare-state").hidden = false;
    this.#part("compare-state").textContent = "Asking each version";
  }

  /** Show each version's answer; see comparison.js. */
  showComparison(answers) {
    this.#part("compare").disabled = false;
    this.#part("compare-state").hidden = true;
    this.#part("versions").hidden = false;
    showComparison(this.#part("versions-rows"), answers);
  }

  /** Show why there is no answer. */
  showError(error) {
    this.error = error;
    this.#part("failure-title").textContent = describeFailure(error);
    this.#part("failure-text").textContent = sentence(error.message);
    this.#part("failure-request").textContent = error.requestId ? `Request ${error.requestId}` : "";
    this.#part("again").hidden = FINAL.includes(error.status);
    this.#become("failed");
  }

  /**
   * Lay a heat map over the picture.
   *
   * @param {object} saliency of POST /v1/explain
   * @param {{width: number, height: number, fit: string, crop_fraction?: number}} input how the model takes its pictures
   */
  showMap(saliency, input) {
    paintHeat(this.#part("heat"), saliency, this.#size, input);
    this.#part("heat").hidden = false;
    this.#part("strength").parentElement.hidden = false;
    this.#showHeatTools();
    this.#blend();
  }

  /** Show the service's own drawing of the map over a picture that this browser cannot show. */
  async showDrawnMap(png) {
    await drawFile(png, this.#part("picture"), this.signal);
    this.#part("picture").hidden = false;
    this.#part("no-picture").hidden = true;
    this.#part("strength").parentElement.hidden = true;
    this.#showHeatTools();
  }

  /** Draw the picture, and the heat map over it, as large as a canvas allows. */
  paintThumbnail(canvas) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    const picture = this.#part("picture");
    if (picture.hidden || (this.#size === null && !this.isMapOpen)) return;
    const scale = Math.min(canvas.width / picture.width, canvas.height / picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    const area = [(canvas.width - width) / 2, (canvas.height - height) / 2, width, height];
    const heat = this.#part("heat");
    context.filter = heat.hidden ? "none" : "grayscale(100%)";
    context.drawImage(picture, ...area);
    context.filter = "none";
    if (heat.hidden) return;
    context.globalAlpha = 0.7;
    context.drawImage(heat, ...area);
    context.globalAlpha = 1;
  }

  /** Say why there is no map. */
  showMapError(error) {
    this.#element.removeAttribute("aria-busy");
    this.#part("heat-error").textContent = `No heat map. ${sentence(error.message)}`;
    this.#part("heat-error").hidden = false;
  }

  async #draw() {
    this.#size = await drawFile(this.file, this.#part("picture"), this.signal);
    this.#showPicture();
  }

  /** Ask for the heat map, or hide it. */
  openMap(opens) {
    if (opens === this.isMapOpen) return;
    this.#part("explain").setAttribute("aria-expanded", opens);
    this.#part("explain").textContent = opens ? "Hide heat map" : "Show heat map";
    if (opens) this.#askForMap();
    else {
      for (const name of ["heat-tools", "heat", "heat-error"]) this.#part(name).hidden = true;
      this.#part("picture").style.filter = "";
      this.#showPicture();
    }
  }

  #sendCorrection() {
    if (!this.#part("consent-box").checked) {
      this.showCorrection("Consent is needed: tick the box.", null);
      this.#part("consent-box").focus();
    } else this.dispatchEvent(new Event("correct"));
  }

  #showPicture() {
    this.#part("picture").hidden = this.#size === null;
    this.#part("no-picture").hidden = this.#size !== null;
    this.dispatchEvent(new Event("picture"));
  }

  #showHeatTools() {
    this.#element.removeAttribute("aria-busy");
    this.#part("heat-error").hidden = true;
    this.#part("heat-tools").hidden = false;
    this.dispatchEvent(new Event("picture"));
  }

  #askForMap() {
    this.#element.setAttribute("aria-busy", "true");
    this.dispatchEvent(new Event("explain"));
  }

  /** The stronger the map, the greyer the picture: colours of tissue and colours of the map are hard to tell apart. */
  #blend() {
    const strength = Number(this.#part("strength").value);
    this.#part("strength").setAttribute("aria-valuetext", `${strength} %`);
    this.#part("heat").style.opacity = strength / 100;
    this.#part("picture").style.filter = `grayscale(${Math.min(100, 2 * strength)}%)`;
  }

  #become(state) {
    this.#element.dataset.state = state;
    this.#part("progress").hidden = state !== "waiting" && state !== "sending";
    this.#part("outcome").hidden = state !== "done";
    this.#part("failure").hidden = state !== "failed";
    this.dispatchEvent(new Event("state"));
  }

  #link(label, control) {
    this.#part(control).id = `${control}-${cards}`;
    this.#part(label).htmlFor = this.#part(control).id;
  }

  #part(name) {
    return this.#element.querySelector(`.${name}`);
  }
}

function bar({ label, probability }) {
  const item = document.createElement("li");
  const track = document.createElement("span");
  const fill = document.createElement("span");
  track.className = "track";
  track.setAttribute("aria-hidden", "true");
  fill.style.width = `${100 * probability}%`;
  track.append(fill);
  const value = textElement("data", percent(probability));
  value.value = probability;
  value.title = String(probability);
  item.append(textElement("span", label), value, track);
  return item;
}

function warning(code) {
  const { title, text } = describeWarning(code);
  const item = document.createElement("li");
  item.append(textElement("strong", title), textElement("span", text));
  return item;
}

function decision(point) {
  const { title, text } = describeDecision(point);
  const item = document.createElement("li");
  item.dataset.called = point.called;
  item.append(textElement("strong", title), textElement("span", text));
  return item;
}

function textElement(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}
