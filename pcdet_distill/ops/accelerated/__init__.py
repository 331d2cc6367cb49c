"""Fast twins of the plain operators. Each has a parity test against its plain version and compiles on first use."""
