"""What the rows of a study cost, and the epochs that cost the same.

costs           seconds of a training, counted from measured steps or measured as a whole
step_times      how long a training step of each row takes
equal_compute   the epochs of a row that costs what others cost
measured        parameters, GFLOPs and latency at test time
"""
