"""The process that explains: it runs at the lowest priority, and is killed first if memory runs out.

The process reads frames (:mod:`service.messages.frames`) from standard input, and writes frames to standard output.
:mod:`service.processes` starts the process as ``python -m service.explain.worker_main BUNDLE_ID``.
"""

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import orjson

from service.messages.frames import Frame, pack, read
from service.processes import step_back

__all__ = ["main"]

Head = dict[str, Any]


class PastDeadlineError(Exception):
    """The deadline has passed, so nobody waits for this answer any more."""


def main() -> None:
    """Answer questions until standard input ends."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's code prints goes to the log, so that it does not damage the frames
    for number in (signal.SIGINT, signal.SIGTERM):  # these may go to all processes at once; the parent ends this one
        signal.signal(number, signal.SIG_IGN)
    step_back()
    explain = _load(sys.argv[1])
    frame = pack({"status": "ready"})
    while True:
        answers.write(frame)
        answers.flush()
        asked = read(questions)
        if asked is None:
            return
        frame = pack(*explain(*asked))


def _load(bundle_id: str) -> Callable[[Head, bytes], Frame]:
    import numpy as np  # noqa: PLC0415 - imports take long, so they run at the low priority
    import torch  # noqa: PLC0415

    from guards.bundle.bundle import Bundle  # noqa: PLC0415
    from guards.explainers.base import NotExplainableError  # noqa: PLC0415
    from guards.explanations.explain import Question, WithheldError, explain  # noqa: PLC0415
    from guards.explanations.pictures import NoPictureError, picture  # noqa: PLC0415
    from service.engine.deployment import Deployment  # noqa: PLC0415
    from service.settings import Settings  # noqa: PLC0415
    from service.telemetry.logs import configure  # noqa: PLC0415

    torch.set_num_threads(1)
    settings = Settings.from_environment()
    configure(settings.log_level)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its lines about fonts would fill the log
    deployment = Deployment.read(settings)
    folder = None if settings.config is None else settings.config.resolve().parent
    config = deployment.config
    # The rows of a question come in any number. A compiled model would be compiled anew for each number of rows, which
    # takes seconds; explaining itself never uses the compiled model.
    config = config.model_copy(update={"model": config.model.model_copy(update={"compile": False})})
    bundle = Bundle.load(settings.bundle, config=config, folder=folder, device=config.explain.device)
    if bundle.id != bundle_id:
        sys.exit("the bundle was replaced after the server had loaded the bundle; restart the server")
    pipeline = bundle.pipeline()

    def answer(head: Head, rows: bytes) -> Frame:
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
        except Exception as fault:  # noqa: BLE001 - only the class is logged: the message may quote the row
            return {"status": "error", "kind": type(fault).__name__}, b""

    return answer


def _pieces(pieces: list[bytes]) -> Frame:
    return {"status": "ok", "pieces": [len(piece) for piece in pieces]}, b"".join(pieces)


if __name__ == "__main__":
    main()
