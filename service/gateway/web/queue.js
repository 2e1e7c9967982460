// Work that waits its turn: a few tasks at a time, none while the service is not ready.

export class Queue {
  #limit;
  #waiting = [];
  #running = 0;
  #open = false;

  /** @param {number} limit tasks at the same time */
  constructor(limit) {
    this.#limit = limit;
  }

  /**
   * Run a task when its turn comes.
   *
   * @param {() => Promise<void>} task handles its own errors
   * @param {{signal: AbortSignal, first?: boolean}} options a task whose signal has fired is left out
   */
  add(task, { signal, first = false }) {
    const entry = { task, signal };
    if (first) this.#waiting.unshift(entry);
    else this.#waiting.push(entry);
    this.#next();
  }

  /** Let tasks begin, or let them wait; those that have begun go on. */
  setOpen(open) {
    this.#open = open;
    this.#next();
  }

  #next() {
    while (this.#open && this.#running < this.#limit && this.#waiting.length > 0) {
      const { task, signal } = this.#waiting.shift();
      if (!signal.aborted) this.#run(task);
    }
  }

  async #run(task) {
    this.#running += 1;
    try {
      await task();
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }
}
