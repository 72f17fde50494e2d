"""The process that explains: started at the first question, last in line for the processor, and first to be killed.

It speaks frames on standard input and output: the length of a JSON head, the head, and as many bytes as its ``size``
says. ``python -m service.explain_process BUNDLE_ID`` is started by :mod:`service.explainers`, and by nobody else.
"""

import contextlib
import ctypes
import logging
import os
import signal
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import orjson

__all__ = ["LENGTH", "main"]

LENGTH = struct.Struct(">I")
LOWEST_PRIORITY = 19
PR_SET_PDEATHSIG = 1  # of Linux's prctl.h
Head = dict[str, Any]
Answer = tuple[Head, bytes]


class PastDeadlineError(Exception):
    """Nobody waits for this answer any more."""


def main() -> None:
    """Answer questions until standard input ends."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints goes to the log, and not between the frames
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a service at once: the server ends us
        signal.signal(number, signal.SIG_IGN)
    _step_back()
    explain = _load(sys.argv[1])
    _write(answers, {"status": "ready"}, b"")
    while (asked := _read(questions)) is not None:
        _write(answers, *explain(*asked))


def _step_back() -> None:
    """Let everything else go first, and be the one that goes when memory runs out or the server does."""
    with contextlib.suppress(OSError):  # a container may forbid any of this, and predictions are served all the same
        os.nice(LOWEST_PRIORITY)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            # Whatever else becomes ready to run takes the processor from it at once.
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        with contextlib.suppress(OSError):  # otherwise it ends after its answer, when its input does
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _load(bundle_id: str) -> Callable[[Head, bytes], Answer]:
    import numpy as np  # noqa: PLC0415 - only now that the priority is low
    import torch  # noqa: PLC0415

    from guards.bundle import Bundle  # noqa: PLC0415
    from guards.explainer import NotExplainableError  # noqa: PLC0415
    from guards.explanation import Question, WithheldError, explain  # noqa: PLC0415
    from guards.pictures import NoPictureError, picture  # noqa: PLC0415
    from service.logs import configure  # noqa: PLC0415
    from service.settings import Deployment, Settings  # noqa: PLC0415

    torch.set_num_threads(1)
    settings = Settings.from_environment()
    configure(settings.log_level)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells at length that it looks for fonts
    deployment = Deployment.read(settings)
    folder = None if settings.config is None else settings.config.resolve().parent
    config = deployment.config
    bundle = Bundle.load(settings.bundle, config=deployment.deployed, folder=folder, device=config.explain.device)
    if bundle.id != bundle_id:
        sys.exit("the bundle was replaced after the server had loaded it; restart the server")
    pipeline = bundle.pipeline()

    def answer(head: Head, rows: bytes) -> Answer:
        deadline = time.monotonic() + head["seconds"]

        def checkpoint() -> None:
            if time.monotonic() > deadline:
                raise PastDeadlineError

        x = torch.from_numpy(np.frombuffer(rows, dtype=np.float32).reshape(-1, *bundle.schema.shape).copy())
        question = Question(**{name: head[name] for name in ("method", "target", "steps", "top_k")})
        try:
            found = explain(bundle, pipeline, x, question, checkpoint=checkpoint)
            if head["picture"]:
                return _pieces([picture(found[0], bundle.schema, title=config.name, top_k=question.top_k)])
            return _pieces([orjson.dumps(each.document(bundle.schema, question.top_k)) for each in found])
        except WithheldError as withheld:
            return {"status": "withheld", "rows": [[row, a.label] for row, a in withheld.actions.items()]}, b""
        except (NotExplainableError, NoPictureError) as why:
            return {"status": "refused", "message": str(why)}, b""
        except PastDeadlineError:
            return {"status": "timeout"}, b""
        except Exception as fault:  # noqa: BLE001 - told by its kind alone: its message may quote the row
            return {"status": "error", "kind": type(fault).__name__}, b""

    return answer


def _pieces(pieces: list[bytes]) -> Answer:
    return {"status": "ok", "pieces": [len(piece) for piece in pieces]}, b"".join(pieces)


def _read(stream: BinaryIO) -> Answer | None:
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    head: Head = orjson.loads(stream.read(LENGTH.unpack(length)[0]))
    return head, stream.read(head["size"])


def _write(stream: BinaryIO, head: Head, body: bytes) -> None:
    encoded = orjson.dumps({**head, "size": len(body)})
    stream.write(LENGTH.pack(len(encoded)) + encoded + body)
    stream.flush()


if __name__ == "__main__":
    main()
