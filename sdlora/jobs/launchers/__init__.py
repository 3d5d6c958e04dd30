"""How a job's worker is started: as a local process, as several by `accelerate launch`, or on a node of a Ray cluster."""
