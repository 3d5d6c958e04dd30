"""The check-up of a data set: image statistics, near duplicates, findings."""
