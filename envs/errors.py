"""What can go wrong in a simulated world."""

from __future__ import annotations


class EnvError(Exception):
    """Root of every error an environment raises on purpose."""


class RenderError(EnvError):
    """No picture can be rendered here."""

    @classmethod
    def of(cls, backend: str, cause: BaseException) -> RenderError:
        """One line: the GL backend that failed, why, and what to try."""
        text = " ".join(str(cause).split()).split(". ")[0].rstrip(".") or type(cause).__name__
        return cls(
            f"expected a working GL backend, got {backend!r} which failed ({text}): "
            "install Mesa (Debian, Ubuntu: apt-get install libegl1 libgl1 libgl1-mesa-dri), "
            "or try MUJOCO_GL=osmesa with libosmesa6, or unset MUJOCO_GL, PYOPENGL_PLATFORM and DISPLAY"
        )


class PhysicsDiverged(EnvError):  # noqa: N818 (an event, named as one)
    """The simulation left the numbers; MuJoCo's silent reset is disabled, so nobody mistakes it for a fresh start."""


class SceneError(EnvError):
    """A scene that cannot be built or a start or goal that cannot be sampled."""
