"""Plain data and rules of the gateway: jobs, programs, backends, errors. No I/O, and nothing of ours is imported."""
