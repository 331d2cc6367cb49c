#!/usr/bin/env bash
# Evaluate with several processes on this machine: dist_test.sh NGPUS ARGS OF test.py ...
# Without GPUs, NGPUS is the number of CPU processes. Runs from any folder.
# PYTHON (environment variable) is the interpreter, python by default.
TOOL=test.py
source "$(dirname "${BASH_SOURCE[0]}")/dist_run.sh"
