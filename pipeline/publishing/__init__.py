"""Published versions: export, verification, the gate, import of foreign models, comparison and pruning."""
