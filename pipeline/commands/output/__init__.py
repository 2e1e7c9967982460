"""Text that commands print: tables, sizes and the gate's outcome."""
