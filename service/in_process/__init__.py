"""Gateway and model server in one process: gRPC's services without sockets, threads and HTTP/2."""
