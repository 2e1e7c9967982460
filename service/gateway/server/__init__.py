"""The gateway's process on uvicorn: sockets, connections, TLS, and a graceful stop."""
