"""One file a screen: its components and handlers."""
