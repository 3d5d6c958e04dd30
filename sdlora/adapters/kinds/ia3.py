"""(IA)³: a factor for each input or output of a layer (arXiv 2205.05638), as LyCORIS writes it."""

from sdlora.adapters.kind_spec import FileKind

FILE_KINDS = (FileKind("ia3", "(IA)³", ("weight.on_input", "on_input"), None),)
