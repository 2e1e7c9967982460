// The API key: asked for when the service wants one, kept in this tab only.

const STORED_AS = "fovea-key";

export class Keys extends EventTarget {
  #dialog = document.getElementById("key-dialog");
  #input = document.getElementById("key");
  #refused = document.getElementById("key-refused");
  #asking = null;
  #current = stored();

  constructor() {
    super();
    document.getElementById("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#dialog.close(this.#input.value.trim());
    });
    document.getElementById("key-cancel").addEventListener("click", () => this.#dialog.close(""));
    this.#dialog.addEventListener("cancel", () => (this.#dialog.returnValue = ""));
  }

  /** The key, or null. */
  get current() {
    return this.#current;
  }

  /** Drop the key. */
  forget() {
    this.#become(null);
  }

  /**
   * Ask for a key because a request without it, or with `sent`, was refused; several requests ask once.
   *
   * @param {string | null} sent the key of the refused request
   * @returns {Promise<boolean>} whether there is a key to try now
   */
  ask(sent) {
    if (this.current !== null && this.current !== sent) return Promise.resolve(true);
    if (sent !== null && this.#asking === null) this.forget(); // it was refused
    this.#asking ??= this.#show(sent !== null).finally(() => (this.#asking = null));
    return this.#asking;
  }

  async #show(refused) {
    this.#refused.hidden = !refused;
    this.#input.value = "";
    this.#dialog.returnValue = "";
    this.#dialog.showModal();
    await new Promise((resolve) => this.#dialog.addEventListener("close", resolve, { once: true }));
    const key = this.#dialog.returnValue;
    this.#input.value = "";
    this.#dialog.returnValue = "";
    if (key === "") return false;
    this.#become(key);
    return true;
  }

  #become(key) {
    this.#current = key;
    try {
      if (key === null) sessionStorage.removeItem(STORED_AS);
      else sessionStorage.setItem(STORED_AS, key);
    } catch {
      // This browser keeps nothing: the key then ends with the page instead of the tab.
    }
    this.dispatchEvent(new Event("change"));
  }
}

function stored() {
  try {
    return sessionStorage.getItem(STORED_AS);
  } catch {
    return null;
  }
}
