"""The quantum job gateway: a gRPC service that holds provider credentials and runs jobs for its callers."""

__version__ = "0.1.0"
