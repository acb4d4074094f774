"""Errors a user can meet. Each message is one line: what was expected, what came, where, how to mend it."""

from __future__ import annotations


class WorldModelError(Exception):
    """Root of every error this project raises on purpose; the command line prints it in one line and exits with 2."""


class ConfigError(WorldModelError):
    """An option that does not exist, or a value it cannot take."""


class DataError(WorldModelError):
    """A data set that is not one, or whose contents are unusable."""


class BundleError(WorldModelError):
    """A folder that is not a model, or a model that is damaged or foreign."""


class EncoderError(WorldModelError):
    """An encoder that cannot be loaded, or frames it cannot take."""


class ImageError(WorldModelError):
    """A goal image that is not an image."""


class OutputError(WorldModelError):
    """An output folder that exists already, is in use, or cannot be written."""


class TrainingError(WorldModelError):
    """Training that stopped being meaningful: a collapsed latent, a loss that is not finite."""
