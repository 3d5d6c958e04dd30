"""Training: the loop, its randomness, caches, state and judgement. Knows nothing of jobs."""
