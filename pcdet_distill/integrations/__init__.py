"""Distillation inside the training tools of other projects.

openpcdet          the calls that OpenPCDet's train.py needs: ``distill_openpcdet`` and loading
openpcdet_dataset  its dataset as ours see it
openpcdet_heads    its heads described for losses on predictions
openpcdet_init     the student's first weights from the teacher
openpcdet_state    checkpoints of student and distillation
openpcdet_checks   what cannot work is refused before the training
"""
