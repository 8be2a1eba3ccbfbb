"""What runs in the sandbox: Python's standard library and nothing else."""
