"""Training and evaluation, the same for plain and for distilled detectors.

train         tools/train.py: set up, train, evaluate
loop          the training loop
setup         from the command line and the config to a Trainer
evaluate      tools/test.py: one checkpoint, all checkpoints, or a teacher
build         from a config to a model
batches       batches of a training epoch, and of one process in an evaluation
optimization  optimizers and learning-rate schedules
run           what the parts of one run share: arguments, config, folder, device, processes
data_check    doubts about the data, before a training
loss_watch    a loss that is not finite: which term, which step, which frames
stopping      signals that end a run

cli           flags, and the settings that follow from them
checkpoints   files, content, random state, lock of the output folder
distributed   several processes
evaluation    one pass over the test frames, and its report
logging       log, metrics.jsonl, TensorBoard
resources     CPU threads, allocator
"""
