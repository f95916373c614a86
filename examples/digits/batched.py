"""The digits behind FastAPI: an application around a function that classifies a batch of images.

Requests that come while the model computes are put together, at most BATCH_SIZE of them; the first waits at most
BATCH_DELAY_MS for others. That a batch was larger than any before is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from fastapi import FastAPI

Scores = Callable[[np.ndarray], np.ndarray]


Waiting = tuple[list[float], "asyncio.Future[int]"]


async def answered(batch: list[Waiting], scores: Scores, pool: ThreadPoolExecutor) -> None:
    """Each request gets its digit, or what went wrong."""
    images = np.array([pixels for pixels, _ in batch], dtype=np.float32)
    try:
        found = await asyncio.get_running_loop().run_in_executor(pool, scores, images)
    except RuntimeError as error:
        for _, answer in batch:
            answer.set_exception(error)
        return
    for (_, answer), digit in zip(batch, found.argmax(1).tolist(), strict=True):
        if not answer.done():
            answer.set_result(digit)


def application(scores: Scores, copies: int = 1) -> FastAPI:
    """`{"pixels": [64 numbers from 0 to 1]}` to /predict is answered with `{"digit": 7}`. `copies` batches are computed
    at once.
    """
    most = int(os.environ.get("BATCH_SIZE", "1"))
    delay_s = float(os.environ.get("BATCH_DELAY_MS", "0")) / 1000
    waiting: asyncio.Queue[Waiting] = asyncio.Queue()
    pool = ThreadPoolExecutor(copies)

    async def serve() -> None:
        largest = 0
        while True:
            batch = [await waiting.get()]
            if delay_s and waiting.qsize() < most - 1:
                await asyncio.sleep(delay_s)
            while len(batch) < most and not waiting.empty():
                batch.append(waiting.get_nowait())
            if len(batch) > largest:
                largest = len(batch)
                print(f"digits: a batch of {largest}", flush=True)
            await answered(batch, scores, pool)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(serve()) for _ in range(copies)]
        yield
        for task in tasks:
            task.cancel()

    app = FastAPI(lifespan=living)

    @app.post("/predict")
    async def predict(asked: dict[str, list[float]]) -> dict[str, int]:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        await waiting.put((asked["pixels"], answer))
        return {"digit": await answer}

    return app
