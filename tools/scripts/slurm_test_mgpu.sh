#!/usr/bin/env bash
# Evaluate on a SLURM cluster: slurm_test_mgpu.sh PARTITION JOB_NAME GPUS ARGS OF test.py ...
# GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS (environment variables) are passed to srun.
TOOL=test.py
source "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh"
