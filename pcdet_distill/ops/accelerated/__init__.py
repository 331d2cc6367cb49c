"""Fast versions of the plain operators. A test compares each with its plain version."""
