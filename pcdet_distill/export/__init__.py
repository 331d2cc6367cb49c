"""Export: a checkpoint as files that run without this package.

``config.py`` says what stands beside the network, in ``config.json``: how points become its inputs,
and how its outputs become boxes.
"""
