// Results as a CSV file, for a spreadsheet.

const HEAD = ["file", "model", "version", "contract", "class", "probability", "warnings", "error", "request"];

/** Offer the cards' results as a file to save: one line for each class of each image, one for each failure. */
export function saveTable(cards) {
  const lines = [HEAD, ...cards.flatMap(rows)].map((row) => row.map(cell).join(","));
  // The mark at the start tells Excel that it is UTF-8.
  const address = URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = "fovea-results.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // the browser may still be reading it
}

function rows({ name, state, result, error }) {
  if (state === "failed") return [[name, "", "", "", "", "", "", error.message, error.requestId]];
  if (state !== "done") return [];
  const { model, entry, requestId } = result;
  return entry.top.map(({ id, probability }) => [
    ...[name, model.name, model.version, model.contract, id, probability],
    ...[entry.warnings.join(" "), "", requestId],
  ]);
}

/** Return one cell; a text that a spreadsheet would take for a formula is marked as text. */
function cell(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
