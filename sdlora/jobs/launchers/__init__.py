"""How a job's worker is started: local process, `accelerate launch`, Ray."""
