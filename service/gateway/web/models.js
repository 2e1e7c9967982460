// Which model answers: the picker in the head of the page, and what is known of each model.

export class Models extends EventTarget {
  /** Whether the service wants a key before it tells anything. */
  keyNeeded = false;
  #api;
  #select = document.getElementById("model");
  #only = document.getElementById("model-only");
  #versions = {};
  #contracts = new Map();

  constructor(api) {
    super();
    this.#api = api;
    this.#select.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    this.addEventListener("change", () => this.#showNotice());
  }

  /** The chosen model's name, null while nothing is served. */
  get chosen() {
    const names = Object.keys(this.#versions);
    return names.length > 1 ? this.#select.value : (names[0] ?? null);
  }

  /** The contract of the chosen model's live version, null while it is not known. */
  get contract() {
    return this.#contracts.get(this.chosen)?.document ?? null;
  }

  /** Return the contract of the version that answered, null if it is not the one that is known. */
  contractOf({ name, version, contract }) {
    const known = this.#contracts.get(name);
    return known?.version === version && known.sha256 === contract ? known.document : null;
  }

  /** Show that this is no medical device, unless the model's recipe says that its images are not medical. */
  #showNotice() {
    const card = this.contract?.provenance?.recipe?.evaluate?.card;
    document.getElementById("medical-notice").hidden = card?.medical === false;
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
    this.#only.textContent = names.length === 1 ? `${names[0]}, version ${versions[names[0]]}` : "";
    this.#only.hidden = names.length > 1;
    await Promise.all(names.map((name) => this.learn(name)));
    this.#showNotice();
  }

  /** Ask what a model's live version is. */
  async learn(name) {
    if (this.#contracts.get(name)?.version === this.#versions[name]) return;
    try {
      const { labels, contract, model_version_status: states } = await this.#api.describe(name);
      this.keyNeeded = false;
      const live = states.find(({ version }) => Number(version) === labels.live);
      if (contract !== null && live !== undefined) {
        this.#contracts.set(name, { version: labels.live, sha256: live.contract, document: contract });
      }
    } catch (error) {
      this.keyNeeded = error.status === 401; // anything else shows when an image is sent
    }
    this.dispatchEvent(new Event("change"));
  }
}
