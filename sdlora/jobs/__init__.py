"""The contract on disk: a job is a folder, its status is derived from what lies there."""
