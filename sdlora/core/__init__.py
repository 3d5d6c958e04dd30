"""What every room stands on: errors, texts in two languages, files written whole, events of a run."""
