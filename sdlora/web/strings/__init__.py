"""Every sentence of the page in English and Japanese, one file a screen: `strings.pictures.TITLE`."""

from sdlora.web.strings import glossary, header, library, login, messages, numbers, pictures, preview, settings, train

__all__ = ["glossary", "header", "library", "login", "messages", "numbers", "pictures", "preview", "settings", "train"]
