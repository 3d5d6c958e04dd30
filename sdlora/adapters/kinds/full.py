"""A whole change of a weight (`diff`) or a bias (`diff_b`), as LyCORIS' full matrices and extracted differences hold it."""

from sdlora.adapters.kind_spec import FileKind

FILE_KINDS = (FileKind("full", "full difference", ("diff", "diff_b"), None),)
