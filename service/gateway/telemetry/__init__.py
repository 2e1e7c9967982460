"""Prometheus metrics, log lines and OpenTelemetry traces of the gateway."""
