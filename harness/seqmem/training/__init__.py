"""The only folder that imports torch: model, learner, loop, probing, checkpoints, worker."""
