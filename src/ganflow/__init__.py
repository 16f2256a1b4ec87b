"""A versioned set of images in, a measured, registered, promotable image generator out."""

__version__ = "0.1.0"
