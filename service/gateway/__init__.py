"""HTTP in, gRPC out: the part of Fovea that people and programs talk to."""
