"""Code knowledge is verified by running its tests, in a sandbox: docs/execution.md."""
