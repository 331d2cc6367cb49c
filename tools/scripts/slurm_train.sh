#!/usr/bin/env bash
# Train on a SLURM cluster: slurm_train.sh PARTITION JOB_NAME GPUS ARGS OF train.py ...
# GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS (environment variables) are passed to srun.
TOOL=train.py
source "$(dirname "${BASH_SOURCE[0]}")/slurm_run.sh"
