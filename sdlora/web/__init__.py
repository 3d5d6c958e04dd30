"""The page: four steps in the order of the work. The only code that imports gradio; it never imports torch."""
