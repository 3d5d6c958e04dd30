"""LoRA files: formats, names, metadata; read, written, inspected, merged, resized, extracted."""
