// Which model and version answer: the pickers in the head of the page, and what is known of each version.

const FRESH_MS = 30_000; // how long what a model's description said counts
const ROLES = ["live", "previous", "candidate"];

export class Models extends EventTarget {
  /** Whether the service wants a key before it tells anything. */
  keyNeeded = false;
  #api;
  #select = document.getElementById("model");
  #only = document.getElementById("model-only");
  #role = document.getElementById("version");
  #versions = {}; // live version by model
  #roles = new Map(); // by model: its versions by role
  #asked = new Map(); // by model: when, and for which live version
  #contracts = new Map(); // by model, version
  #trials = new Map(); // by model: the trial of its candidate, or null

  constructor(api) {
    super();
    this.#api = api;
    this.#select.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    this.#role.addEventListener("change", () => this.#learnChosen());
    this.addEventListener("change", () => {
      this.#showVersions();
      this.#showNotice();
    });
  }

  /** The chosen model's name, null while nothing is served. */
  get chosen() {
    const names = Object.keys(this.#versions);
    return names.length > 1 ? this.#select.value : (names[0] ?? null);
  }

  /** The chosen role: "live", "previous" or "candidate". */
  get role() {
    return this.rolesOf(this.chosen).some(({ role }) => role === this.#role.value) ? this.#role.value : "live";
  }

  /** The contract of the chosen model's chosen version, null while it is not known. */
  get contract() {
    return this.#known(this.chosen, this.#version)?.document ?? null;
  }

  /** The hash of that contract. */
  get hash() {
    return this.#known(this.chosen, this.#version)?.sha256 ?? "";
  }

  /** The precision that it predicts at, "" while it is not known. */
  get precision() {
    return this.#known(this.chosen, this.#version)?.precision ?? "";
  }

  /** The trial of the chosen model's candidate, null without one. */
  get trial() {
    return this.#trials.get(this.chosen) ?? null;
  }

  /** Return a model's versions, each with its role: the live one first. */
  rolesOf(name) {
    const labels = this.#roles.get(name) ?? {};
    return ROLES.filter((role) => role in labels).map((role) => ({ role, version: labels[role] }));
  }

  /** Return the contract of the version that answered, null if it is not known. */
  contractOf({ name, version, contract }) {
    const known = this.#known(name, version);
    return known?.sha256 === contract ? known.document : null;
  }

  /** Take note of what is served, and ask for what is new. */
  async update(versions) {
    const before = this.chosen;
    this.#versions = versions;
    const names = Object.keys(versions).sort();
    this.#select.replaceChildren(...names.map((name) => new Option(`${name}, version ${versions[name]}`, name)));
    if (names.includes(before)) this.#select.value = before;
    document.getElementById("model-line").hidden = names.length === 0;
    this.#select.hidden = names.length < 2;
    this.#only.hidden = names.length !== 1;
    this.#showVersions();
    await Promise.all(names.map((name) => this.learn(name)));
    this.#showNotice();
  }

  /** Ask for the chosen model's versions again if they were asked for some time ago. */
  refresh() {
    if (this.chosen !== null) this.learn(this.chosen);
  }

  /** Ask what a model's versions are. */
  async learn(name) {
    const asked = this.#asked.get(name);
    if (asked?.version === this.#versions[name] && performance.now() - asked.at < FRESH_MS) return;
    this.#asked.set(name, { version: this.#versions[name], at: performance.now() });
    try {
      this.#take(name, await this.#api.describe(name), "live");
      this.keyNeeded = false;
    } catch (error) {
      this.#asked.delete(name);
      this.keyNeeded = error.status === 401; // anything else shows when an image is sent
    }
    if (name === this.chosen && this.role !== "live") await this.#learnChosen();
    else this.dispatchEvent(new Event("change"));
  }

  /** Ask for the contract of the chosen version if it is not known. */
  async #learnChosen() {
    const [name, role] = [this.chosen, this.role];
    try {
      if (this.contract === null) this.#take(name, await this.#api.describe(name, role), role);
    } catch {
      // What is wrong with the version shows when an image is sent.
    }
    this.dispatchEvent(new Event("change"));
  }

  #take(name, { labels, contract, trial, model_version_status: states }, role) {
    this.#roles.set(name, labels);
    this.#trials.set(name, trial ?? null);
    const state = states.find(({ version }) => Number(version) === labels[role]);
    if (contract === null || state === undefined) return;
    this.#contracts.set(`${name} ${labels[role]}`, { sha256: state.contract, document: contract, precision: state.precision });
  }

  get #version() {
    return this.#roles.get(this.chosen)?.[this.role];
  }

  #known(name, version) {
    return this.#contracts.get(`${name} ${version}`);
  }

  /** Offer the versions of the chosen model if there is more than the live one. */
  #showVersions() {
    const [roles, role] = [this.rolesOf(this.chosen), this.role];
    const several = roles.length > 1;
    const options = roles.map(({ role: name, version }) => [`${name}, version ${version}`, name]);
    if (JSON.stringify(options) !== this.#role.dataset.options) {
      this.#role.dataset.options = JSON.stringify(options);
      this.#role.replaceChildren(...options.map(([text, name]) => new Option(text, name)));
      this.#role.value = role;
    }
    document.getElementById("version-line").hidden = !several;
    const version = this.#versions[this.chosen];
    this.#only.textContent = several ? this.chosen : `${this.chosen}, version ${version}`;
    for (const option of this.#select.options) {
      const chosen = option.value === this.chosen && several;
      option.textContent = chosen ? option.value : `${option.value}, version ${this.#versions[option.value]}`;
    }
  }

  /** Show that this is no medical device, unless the model's recipe says that its images are not medical. */
  #showNotice() {
    const card = this.contract?.provenance?.recipe?.evaluate?.card;
    document.getElementById("medical-notice").hidden = card?.medical === false;
  }
}
