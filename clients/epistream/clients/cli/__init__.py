"""The command line, `epistream`. It needs the packages of `epistream[cli]`; nothing of the service is imported here."""
