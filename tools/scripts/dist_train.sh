#!/usr/bin/env bash
# Train with several processes on this machine: dist_train.sh NGPUS ARGS OF train.py ...
# Without GPUs, NGPUS is the number of CPU processes. Runs from any folder.
# PYTHON (environment variable) is the interpreter, python by default.
TOOL=train.py
source "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh"
