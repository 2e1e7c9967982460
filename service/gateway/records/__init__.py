"""What the gateway keeps of requests: the audit log, and images that people have labelled."""
