"""sdlora: train Stable Diffusion LoRAs in the browser, and know how good they are."""

__version__ = "0.1.0"
