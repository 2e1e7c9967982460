"""The model server as the gateway sees it: gRPC calls, their errors and retries."""
