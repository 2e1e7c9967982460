"""The search for wrong labels in words, from its part of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe_search(document: Mapping[str, Any]) -> str:
    """Return the outcome of a search in a line.

    Args:
        document: `wrong_labels` of metrics.json.
    """
    if not document["images"]:
        return f"wrong labels were not looked for: fewer than two classes have {document['min_groups']} groups"
    accuracy, needed = document["held_out_balanced_accuracy"], document["needed_balanced_accuracy"]
    if accuracy < needed:
        figures = f"balanced accuracy {accuracy:.3f} on held-out groups, below {needed:.3f}"
        return f"wrong labels were not looked for: the embeddings tell the classes apart too badly ({figures})"
    counts = f"{document['likely_wrong']} of {document['images']} training and validation images"
    tested = f" and {document['test_likely_wrong']} of {document['test_images']} test images"
    return f"{counts}{tested if document['test_images'] else ''} may be labelled wrong"
