"""Points as the messages that gRPC carries, without the client's models."""
