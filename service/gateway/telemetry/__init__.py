"""What the gateway reports of itself: Prometheus metrics, log lines, OpenTelemetry traces."""
