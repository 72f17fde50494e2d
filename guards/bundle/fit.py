"""``guards.fit``: reads a config and its files, and fits a bundle."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from guards.bundle.fit_parts import Track, untracked
from guards.bundle.fit_rows import Fitted, fit_examined
from guards.config.config import Config
from guards.notices import Notices

if TYPE_CHECKING:
    from guards.bundle.preparation import Prepared

__all__ = ["fit", "fit_prepared"]

STEPS = 3
"""How many times ``prepare`` calls ``step``."""


def fit(
    config: str | Path | Config,
    *,
    folder: str | Path | None = None,
    notices: Notices | None = None,
    track: Track = untracked,
) -> Fitted:
    """Read a config's files, build its model, examine both, and fit a bundle: what ``guardhouse fit`` does.

    The result has the ``bundle``, which is not saved yet, and the ``notices``, whose notes and warnings are what the
    command line prints.

    Args:
        config: the path of a YAML file, or a config that has already been read.
        folder: the folder that the config's paths start from, and where the builder's code is; default: the folder of
            the YAML file, or the working directory if there is no file.
        notices: the collection to which notices are added, even if a mistake ends the fit.
        track: wraps the steps of each stage, to show progress.

    Raises:
        Mistake: something in the config or in a file is wrong.
        ModuleNotFoundError: the packages that read files are not installed (``pip install guardhouse[cli]``).
    """
    # Imported here, since these modules need pandas, pyarrow and yaml, which the library alone does not install.
    from guards.bundle.preparation import prepare  # noqa: PLC0415

    notices = Notices() if notices is None else notices
    if not isinstance(config, Config):
        from guards.config.load import load_config  # noqa: PLC0415

        path = Path(config)
        folder, config = path.resolve().parent if folder is None else folder, load_config(path)
    steps = iter(track(range(STEPS), "data"))

    def step() -> None:
        next(steps, None)

    step()
    prepared = prepare(config, Path("." if folder is None else folder).resolve(), notices, step)
    return fit_prepared(prepared, notices, track=track)


def fit_prepared(prepared: "Prepared", notices: Notices, *, track: Track = untracked) -> Fitted:
    """Fit what :func:`guards.bundle.preparation.prepare` has read, and add to ``notices`` what is found.

    Raises:
        Mistake: a guard or monitor cannot be fitted, or the calibration rows cannot support what the config promises.
    """
    from guards.bundle.model_quality.likely_causes import judge  # noqa: PLC0415 - needs scipy, as above

    fitted = fit_examined(
        prepared.config,
        schema=prepared.schema,
        classes=prepared.classes,
        model=prepared.model,
        train=prepared.train,
        heldout=prepared.heldout,
        program=prepared.program,
        track=track,
    )
    quality = judge(prepared, {"train": fitted.train, "calibration": fitted.heldout}, notices)
    notices.add(fitted.notices)
    return replace(fitted, notices=notices, quality=quality)
