"""Every finished LoRA: listing, files made of others by tasks, publishing."""
