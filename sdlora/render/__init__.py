"""Drawing with a base and a LoRA, the loss chart and contact sheets, and the check of a written file."""
