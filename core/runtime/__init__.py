"""The composition root: surroundings in, a wired core out."""

from core.runtime.core import Core, Surroundings

__all__ = ["Core", "Surroundings"]
