// Ways in for images: choose, photograph, drop anywhere on the page, paste. Folders are opened.

export class Intake {
  #take;
  #area = document.getElementById("intake");
  #pasted = 0;
  #dragDepth = 0;

  /** @param {(files: {file: File, name: string}[]) => void} take gets what comes in */
  constructor(take) {
    this.#take = take;
    for (const input of ["choose", "photograph", "folder"].map((id) => document.getElementById(id)).filter(Boolean)) {
      input.addEventListener("change", () => {
        this.#give([...input.files]);
        input.value = ""; // so that the same file can be chosen again
      });
    }
    document.addEventListener("paste", (event) => this.#paste(event));
    document.addEventListener("dragenter", (event) => this.#drag(event, 1));
    document.addEventListener("dragleave", (event) => this.#drag(event, -1));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => this.#drop(event));
  }

  #give(files) {
    if (files.length > 0) this.#take(files.map((file) => ({ file, name: file.name })));
  }

  #paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length === 0) return;
    event.preventDefault();
    this.#take(files.map((file) => ({ file, name: `pasted ${(this.#pasted += 1)}` })));
  }

  #drag(event, step) {
    event.preventDefault();
    this.#dragDepth = Math.max(0, this.#dragDepth + step);
    this.#area.classList.toggle("dragged-over", this.#dragDepth > 0);
  }

  async #drop(event) {
    event.preventDefault();
    this.#dragDepth = 0;
    this.#area.classList.remove("dragged-over");
    // Both are gone after the first wait.
    const files = [...event.dataTransfer.files];
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return this.#give(files);
    return this.#give(await filesOf(entries).catch(() => files)); // each says then why it cannot be read
  }
}

/** Return the files of dropped entries, folders opened, in the order of their names. */
async function filesOf(entries) {
  const files = [];
  for (const entry of entries) {
    if (entry.isDirectory) {
      const inside = await readFolder(entry);
      inside.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
      files.push(...(await filesOf(inside)));
    } else if (!entry.name.startsWith(".")) {
      files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    }
  }
  return files;
}

async function readFolder(entry) {
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // It gives a part at a time, and nothing at the end.
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (part.length === 0) return found;
    found.push(...part);
  }
}
