"""Who calls, and what they may: TLS, credentials, roles, limits, and the audit log. docs/security.md is the manual."""
