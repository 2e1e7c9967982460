"""The service: an HTTP gateway, an embedded model server, and a client for people."""
