"""The systems that are measured: Fovea's own processes and the peers', started, asked for a right answer, stopped."""
