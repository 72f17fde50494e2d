"""The tests of alibi-detect 0.13 as functions of plain arrays. Only this file imports alibi-detect, within functions.

No object of alibi-detect is saved: a window test is made anew for each window, and an online detector is made anew from
the arrays of its configuration. So neither dill nor any other pickle is needed, and no object grows.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from guards.monitors.alibi.windows import dense, separate
from guards.monitors.slow_work.work import Arrays

__all__ = ["CONFIGURED", "configure", "test", "watch"]

Array = npt.NDArray[np.float32]
Task = Mapping[str, Any]
Found = dict[str, npt.NDArray[np.generic]]
SMALLEST = float(np.finfo(np.float32).tiny)
CONFIGURED: Final[Mapping[str, tuple[str, ...]]] = {
    "alibi_mmd_online": ("thresholds", "ref_inds", "init_test_inds", "k_xx_sub_sum"),
    "alibi_lsdd_online": ("thresholds", "H_lam_inv", "kernel_centers", "x_ref_eff", "init_test_inds", "c2s"),
    "alibi_cvm_online": ("thresholds",),
}
"""The results of an online detector's slow configuration, by alibi-detect's names for them."""
CONFIGURING = ("_configure_kernel_centers", "_configure_thresholds", "_configure_ref_subset")
HISTORY = ("test_stats", "drift_preds")
"""State of a detector that grows with every row and is never read."""


def test(task: Task, arrays: Arrays) -> Found:
    """Compare ``window`` with ``reference``: ``p_value``, ``statistic`` and, if the test is by column, ``p_values``.

    Raises:
        ValueError: the rows do not suit the test.
    """
    x_ref, x = (_encoded(task, arrays, name) for name in ("reference", "window"))
    context = [_context(task, arrays, name) for name in ("reference", "window") if task["context"]]
    with _run(task["seed"]) as cd:
        return TESTS.get(task["kind"], _by_column)(cd, task, x_ref, x, *context)


def _mmd(cd: ModuleType, task: Task, x_ref: Array, x: Array, *_: Array) -> Found:
    """Gretton et al. 2012, "A kernel two-sample test"."""
    detector = cd.MMDDrift(x_ref, backend="pytorch", n_permutations=task["permutations"], device="cpu")
    return _permuted(detector.predict(x)["data"], task)


def _lsdd(cd: ModuleType, task: Task, x_ref: Array, x: Array, *_: Array) -> Found:
    """Bu et al. 2016, "An LSDD-based change detection test"."""
    detector = cd.LSDDDrift(x_ref, backend="pytorch", n_permutations=task["permutations"], device="cpu")
    return _permuted(detector.predict(x)["data"], task)


def _context_mmd(cd: ModuleType, task: Task, x_ref: Array, x: Array, c_ref: Array, c: Array) -> Found:
    """Cobb and Van Looveren 2022, "Context-aware drift detection"."""
    from alibi_detect.cd._domain_clf import _SVCDomainClf  # noqa: PLC0415
    from sklearn.calibration import CalibratedClassifierCV  # noqa: PLC0415
    from sklearn.frozen import FrozenEstimator  # noqa: PLC0415

    detector = cd.ContextMMDDrift(x_ref, c_ref, backend="pytorch", n_permutations=task["permutations"], device="cpu")
    inner = detector._detector  # noqa: SLF001 - its classifier uses cv="prefit", which scikit-learn 1.8 dropped

    def calibrate(self: Any, x: Array, y: Array) -> None:  # noqa: ANN401 - a class of alibi-detect's
        self.clf = CalibratedClassifierCV(FrozenEstimator(self.clf), method=self.cal_method).fit(x, y)

    inner.clf = type("DomainClassifier", (_SVCDomainClf,), {"calibrate": calibrate})(inner.c_kernel)
    return _permuted(detector.predict(x, c)["data"], task)


def _permuted(data: Mapping[str, Any], task: Task) -> Found:
    """Count the observed order among the permuted ones, so that no p-value is 0 (Phipson and Smyth 2010)."""
    drawn: int = task["permutations"]
    larger = round(float(data["p_val"]) * drawn)
    return {"p_value": np.asarray((1 + larger) / (1 + drawn)), "statistic": np.asarray(float(data["distance"]))}


def _classifier(cd: ModuleType, task: Task, x_ref: Array, x: Array, *_: Array) -> Found:
    """Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests", on rows outside the classifier's training."""
    net = nn.Sequential(nn.Linear(x_ref.shape[1], task["hidden"]), nn.ReLU(), nn.Linear(task["hidden"], 2))
    detector = cd.ClassifierDrift(x_ref, net, backend="pytorch", preds_type="logits", device="cpu", **_training(task))
    return _trained(detector.predict(x)["data"])


def _spot_the_diff(cd: ModuleType, task: Task, x_ref: Array, x: Array, *_: Array) -> Found:
    """Jitkrittum et al. 2016: the classifier's one test location, as its difference from the reference's mean."""
    detector = cd.SpotTheDiffDrift(x_ref, backend="pytorch", device="cpu", l1_reg=task["l1"], **_training(task))
    data = detector.predict(x)["data"]
    sign = np.sign(data["diff_coeffs"][0])
    return {**_trained(data), "difference": np.asarray(sign * data["diffs"][0])}


def _training(task: Task) -> dict[str, Any]:
    return {"train_size": task["train_size"], "epochs": task["epochs"], "learning_rate": task["learning_rate"]}


def _trained(data: Mapping[str, Any]) -> Found:
    p_value = max(float(data["p_val"]), SMALLEST)
    return {"p_value": np.asarray(p_value), "statistic": np.asarray(float(data["distance"]))}


def _by_column(cd: ModuleType, task: Task, x_ref: Array, x: Array) -> Found:
    if task["kind"] == "alibi_ks":
        detector = cd.KSDrift(x_ref)
    elif task["kind"] == "alibi_cvm":
        detector = cd.CVMDrift(x_ref)
    else:  # the columns for gaps come last
        columns = [*task["columns"], *[1] * (x.shape[1] - len(task["columns"]))]
        discrete = [place for place, count in enumerate(columns) if count]
        detector = cd.TabularDrift(x_ref, categories_per_feature=dict.fromkeys(discrete))
    data = detector.predict(x)["data"]
    p_values = np.maximum(np.asarray(data["p_val"], np.float64), SMALLEST)
    adjusted = np.minimum(p_values * len(p_values), 1.0)  # Bonferroni
    least = int(adjusted.argmin())
    return {"p_value": adjusted[least], "statistic": np.asarray(data["distance"][least]), "p_values": adjusted}


TESTS: Final[Mapping[str, Callable[..., Found]]] = {
    "alibi_mmd": _mmd,
    "alibi_lsdd": _lsdd,
    "alibi_context_mmd": _context_mmd,
    "alibi_classifier": _classifier,
    "alibi_spot_the_diff": _spot_the_diff,
}


def configure(task: Task, arrays: Arrays) -> Found:
    """Simulate an online detector's thresholds, and give the arrays that :data:`CONFIGURED` names.

    Raises:
        ValueError: the rows do not suit the detector.
    """
    with _run(task["seed"]) as cd:
        detector = _online(cd, task, _encoded(task, arrays, "reference"))
        return {name: _array(getattr(detector, name)) for name in CONFIGURED[task["kind"]]}


def watch(task: Task, arrays: Arrays) -> Found:
    """Pass ``window``, row by row, to the configured online detector, which continues from its last state.

    The detector starts anew after every alarm. Returns the rows of the ``alarms``, the last ``statistic`` and its
    ``threshold``, and the detector's new state as ``state.NAME``.
    """
    rows = _encoded(task, arrays, "window")
    state = {name.removeprefix("state."): value for name, value in arrays.items() if name.startswith("state.")}
    alarms: list[int] = []
    with _run(task["seed"]) as cd:
        detector = _online(cd, task, _encoded(task, arrays, "reference"), arrays)
        for name, value in state.items():
            setattr(detector, name, int(value) if name == "t" else _like(getattr(detector, name), value))
        data: Mapping[str, Any] = {}
        for place, row in enumerate(rows):
            data = detector.predict(row)["data"]
            if data["is_drift"]:
                alarms.append(place)
                detector.reset_state()
        left = {name: _array(getattr(detector, name)) for name in detector.online_state_keys if name not in HISTORY}
    if "xs" in left:  # "xs" holds all rows since the start, and only the last window is read
        left["xs"] = left["xs"][-task["window"] :]
    return {
        "alarms": np.asarray(alarms, np.int64),
        "statistic": np.asarray(_array(data["test_stat"]).max()),
        "threshold": np.asarray(_array(data["threshold"]).max()),
        **{f"state.{name}": value for name, value in left.items()},
    }


def _online(cd: ModuleType, task: Task, x_ref: Array, configured: Arrays | None = None) -> Any:  # noqa: ANN401
    """Make a detector; if ``configured`` holds the arrays of its configuration, it is not configured again."""
    from alibi_detect.cd.pytorch.lsdd_online import LSDDDriftOnlineTorch  # noqa: PLC0415
    from alibi_detect.cd.pytorch.mmd_online import MMDDriftOnlineTorch  # noqa: PLC0415

    kind = task["kind"]
    made: Any = {
        "alibi_mmd_online": MMDDriftOnlineTorch,
        "alibi_lsdd_online": LSDDDriftOnlineTorch,
        "alibi_cvm_online": cd.CVMDriftOnline,
    }[kind]
    settings: dict[str, Any] = {"ert": task["expected_run_time"], "n_bootstraps": task["bootstraps"], "verbose": False}
    if kind == "alibi_cvm_online":
        settings["window_sizes"] = [task["window"]]
    else:
        settings |= {"window_size": task["window"], "device": "cpu"}
    if configured is None:
        return made(x_ref, **settings)
    left_out = {name: lambda _: None for name in CONFIGURING if hasattr(made, name)}
    detector = type(made.__name__, (made,), left_out)(x_ref, **settings)
    for name in CONFIGURED[kind]:
        value = configured[f"online.{name}"]
        setattr(detector, name, value if kind == "alibi_cvm_online" else torch.from_numpy(value.copy()))
    detector._initialise_state()  # noqa: SLF001 - reset_state() does only this
    return detector


def _encoded(task: Task, arrays: Arrays, name: str) -> Array:
    """Give the columns that the test looks at, as finite numbers."""
    width, gaps = len(task["columns"]), task["gaps"]
    reference, rows = (np.asarray(arrays[each], np.float32)[:, :width] for each in ("reference", name))
    if task["layout"] == "columns":
        return separate(rows, reference, task["columns"], gaps=gaps, window=task["window"])
    encoded = dense(rows, reference, task["columns"], gaps=gaps)
    if task["kind"] in {"alibi_lsdd", "alibi_lsdd_online"}:  # divides by each column's deviation, even by 0
        varies = np.ptp(dense(reference, reference, task["columns"], gaps=gaps), axis=0) > 0
        if not varies.any():
            raise ValueError("no column of it varies")
        encoded = encoded[:, varies]
    return encoded


def _context(task: Task, arrays: Arrays, name: str) -> Array:
    width = len(task["columns"])
    reference, rows = (np.asarray(arrays[each], np.float32)[:, width:] for each in ("reference", name))
    return dense(rows, reference, task["context"], gaps=task["context_gaps"])


def _array(value: Any) -> npt.NDArray[np.generic]:  # noqa: ANN401 - a tensor, an array, or a list of numbers
    return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _like(old: Any, value: npt.NDArray[np.generic]) -> Any:  # noqa: ANN401
    return torch.from_numpy(value.copy()) if isinstance(old, torch.Tensor) else value


@contextmanager
def _run(seed: int) -> Iterator[ModuleType]:
    """Import alibi-detect, seed the global generators that it draws from, and restore their states afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of its own imports, which cannot be corrected here
        from alibi_detect import cd  # noqa: PLC0415
    drawn = np.random.get_state()  # noqa: NPY002
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield cd
        finally:
            np.random.set_state(drawn)  # noqa: NPY002
