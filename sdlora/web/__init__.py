"""The page: five steps in the order of the work. The only code that imports gradio; it never imports torch."""
