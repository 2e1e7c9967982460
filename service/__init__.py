"""The service: an HTTP gateway, an embedded model server, and a client for people."""

VERSION = "0.1.0"
