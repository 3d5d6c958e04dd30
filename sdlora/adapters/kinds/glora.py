"""GLoRA (arXiv 2306.07967), as LyCORIS writes it."""

from sdlora.adapters.kind_spec import FileKind

FILE_KINDS = (
    FileKind(
        "glora",
        "GLoRA",
        ("a1.weight", "a2.weight", "b1.weight", "b2.weight", "bm.weight"),
        None,
        rank_endings=(("a2.weight", 0),),
    ),
)
