"""The gateway's process on uvicorn: sockets, connections, TLS, and a stop that finishes what was begun."""
