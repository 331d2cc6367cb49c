"""The command line of tools/train.py and tools/test.py, and the settings that follow from it."""
