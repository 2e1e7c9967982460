"""The embedded model server: TensorFlow Serving's gRPC protocol on engine/."""
