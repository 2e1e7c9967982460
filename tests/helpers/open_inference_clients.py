"""The Open Inference Protocol's own clients, asked to do what their users do; runs in an environment of their own.

    python open_inference_clients.py CLIENT URL KEYED_URL KEY FILES     prints what the client made of the replies

CLIENT is one of the functions that `CLIENTS` names. The gateway at URL serves `colours`; that at KEYED_URL wants KEY.
FILES has three image files, red, green, blue, a line of base64 each. Nothing of the project can be imported here.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "colours"
LEVELS = np.array([200, 40, 40])  # red on dark grey
IMAGES = np.stack([np.broadcast_to(np.roll(LEVELS, shift), (16, 16, 3)) for shift in range(3)]).astype(np.uint8)


def fail(call: Callable[[], Any]) -> str:
    """Return the text of the error that a call raises."""
    try:
        call()
    except Exception as err:  # noqa: BLE001 - whatever it is, its user sees it
        return str(err)
    return "no error"


def triton_http(url: str, keyed_url: str, key: str, files: list[bytes]) -> dict[str, Any]:
    """tritonclient.http."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(url.removeprefix("http://"))
    keyed = triton.InferenceServerClient(keyed_url.removeprefix("http://"))
    pixels = triton.InferInput("images", [3, 16, 16, 3], "UINT8").set_data_from_numpy(IMAGES)
    told = triton.InferInput("images", [3, 16, 16, 3], "UINT8").set_data_from_numpy(IMAGES, binary_data=False)
    pictures = triton.InferInput("images", [3], "BYTES").set_data_from_numpy(np.array(files, object))
    index = triton.InferInput("class_index", [3], "INT32").set_data_from_numpy(np.full(3, -1, np.int32))
    as_json = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    explained = client.infer(
        MODEL,
        [index, pixels],
        outputs=[triton.InferRequestedOutput("saliency"), *as_json],
        parameters={"signature_name": "explain"},
    )
    row = triton.InferInput("row", [1], "INT32").set_data_from_numpy(np.zeros(1, np.int32))
    described = client.infer(MODEL, [row], parameters={"signature_name": "describe"})

    def classes(binary: bool) -> Any:
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
        ranked = client.infer(MODEL, [pixels], outputs=wanted).as_numpy("probabilities")
        return [[item.decode() if isinstance(item, bytes) else item for item in row] for row in ranked]

    def infer(*inputs: Any, **other: Any) -> Any:
        return client.infer(MODEL, list(inputs), **other).as_numpy("probabilities").tolist()

    return {
        "ready": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL)],
        "not_ready": client.is_model_ready("none"),
        "server": client.get_server_metadata(),
        "model": client.get_model_metadata(MODEL, "1"),
        "answers": [
            infer(pixels),
            infer(told, outputs=as_json),
            infer(pixels, outputs=as_json),
            infer(told),
            infer(pictures),
            infer(pixels, request_compression_algorithm="gzip", response_compression_algorithm="gzip"),
            infer(pixels, request_compression_algorithm="deflate", response_compression_algorithm="deflate"),
            infer(pixels, priority=1, timeout=1, parameters={"content_type": "np"}, headers={"x-request-id": "a"}),
            client.async_infer(MODEL, [pixels]).get_result().as_numpy("probabilities").tolist(),
            keyed.infer(MODEL, [pixels], headers={"X-API-Key": key}).as_numpy("probabilities").tolist(),
        ],
        "first": infer(pixels, model_version="1"),
        "explain": [explained.as_numpy("saliency").shape, explained.as_numpy("probabilities").tolist()],
        "contract": described.as_numpy("contract")[0].decode(),
        "id": client.infer(MODEL, [pixels], request_id="42").get_response()["id"],
        "classes": [classes(True), classes(False)],
        "errors": {
            "config": fail(lambda: client.get_model_config("none")),
            "index": fail(client.get_model_repository_index),
            "statistics": fail(lambda: client.get_inference_statistics("none")),
            "load": fail(lambda: client.load_model("none")),
            "metadata": fail(lambda: client.get_model_metadata("none")),
            "model": fail(lambda: client.infer("none", [pixels])),
            "version": fail(lambda: client.infer(MODEL, [pixels], model_version="9")),
            "sequence": fail(lambda: client.infer(MODEL, [pixels], sequence_id=7, sequence_start=True)),
            "input": fail(lambda: client.infer(MODEL, [index])),
            "picture": fail(
                lambda: client.infer(
                    MODEL, [triton.InferInput("images", [1], "BYTES").set_data_from_numpy(np.array([b"%PDF"], object))]
                )
            ),
            "key": fail(lambda: keyed.get_model_metadata(MODEL)),
            "key_infer": fail(lambda: keyed.infer(MODEL, [pixels])),
            "key_config": fail(lambda: keyed.get_model_config(MODEL)),
        },
    }


def triton_aio(url: str, keyed_url: str, key: str, files: list[bytes]) -> dict[str, Any]:
    """tritonclient.http.aio."""
    import tritonclient.http.aio as triton

    async def fail_async(call: Any) -> str:
        try:
            await call
        except Exception as err:  # noqa: BLE001 - whatever it is, its user sees it
            return str(err)
        return "no error"

    async def ask() -> dict[str, Any]:
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        keyed = triton.InferenceServerClient(keyed_url.removeprefix("http://"))
        pixels = triton.InferInput("images", [3, 16, 16, 3], "UINT8").set_data_from_numpy(IMAGES)
        pictures = triton.InferInput("images", [3], "BYTES").set_data_from_numpy(np.array(files, object))
        wanted = [triton.InferRequestedOutput("probabilities", class_count=2)]
        ranked = (await client.infer(MODEL, [pixels], outputs=wanted)).as_numpy("probabilities")
        try:
            answers = await asyncio.gather(
                *(client.infer(MODEL, [tensor]) for tensor in (pixels, pictures)),
                client.infer(MODEL, [pixels], request_compression_algorithm="gzip"),
                client.infer(MODEL, [pixels], request_compression_algorithm="deflate"),
                keyed.infer(MODEL, [pixels], headers={"X-API-Key": key}),
            )
            return {
                "ready": [
                    await client.is_server_live(),
                    await client.is_server_ready(),
                    await client.is_model_ready(MODEL),
                ],
                "not_ready": await client.is_model_ready("none"),
                "server": await client.get_server_metadata(),
                "model": await client.get_model_metadata(MODEL, "1"),
                "answers": [answer.as_numpy("probabilities").tolist() for answer in answers],
                "classes": [[[item.decode() for item in row] for row in ranked]],
                "errors": {
                    "config": await fail_async(client.get_model_config("none")),
                    "model": await fail_async(client.infer("none", [pixels])),
                    "key": await fail_async(keyed.get_model_metadata(MODEL)),
                    "key_infer": await fail_async(keyed.infer(MODEL, [pixels])),
                },
            }
        finally:
            await client.close()
            await keyed.close()

    return asyncio.run(ask())


def kserve_rest(url: str, keyed_url: str, key: str, files: list[bytes]) -> dict[str, Any]:
    """kserve.InferenceRESTClient."""
    from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
    from kserve.protocol.infer_type import RequestedOutput

    def pixels(binary: bool) -> Any:
        tensor = InferInput("images", [3, 16, 16, 3], "UINT8")
        tensor.set_data_from_numpy(IMAGES, binary_data=binary)
        return tensor

    pictures = InferInput("images", [3], "BYTES")
    pictures.set_data_from_numpy(np.array(files, object), binary_data=True)
    everything = {"binary_data_output": True}
    named = [RequestedOutput("probabilities", {"binary_data": True})]

    async def ask() -> dict[str, Any]:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))

        async def infer(tensor: Any, base: str = url, headers: Any = None, **other: Any) -> Any:
            request = InferRequest(MODEL, [tensor], **other)
            answer = await client.infer(base, request, model_name=MODEL, headers=headers)
            return answer.outputs[0].as_numpy().tolist()

        async def fail_async(call: Any) -> str:
            try:
                await call
            except Exception as err:  # noqa: BLE001 - whatever it is, its user sees it
                return str(err)
            return "no error"

        try:
            return {
                "ready": [
                    await client.is_server_live(url),
                    await client.is_server_ready(url),
                    await client.is_model_ready(url, MODEL),
                ],
                "not_ready": await client.is_model_ready(url, "none"),
                "answers": [
                    await infer(pixels(True)),
                    await infer(pixels(False)),
                    await infer(pixels(True), parameters=everything),
                    await infer(pixels(False), parameters=everything),
                    await infer(pixels(True), request_outputs=named),
                    await infer(pictures),
                    await infer(pixels(True), keyed_url, {"X-API-Key": key}),
                ],
                "errors": {
                    "model": await fail_async(
                        client.infer(url, InferRequest("none", [pixels(True)]), model_name="none")
                    ),
                    "key": await fail_async(infer(pixels(True), keyed_url)),
                },
            }
        finally:
            await client.close()

    return asyncio.run(ask())


CLIENTS = {client.__name__: client for client in (triton_http, triton_aio, kserve_rest)}

if __name__ == "__main__":
    name, url, keyed_url, key, file = sys.argv[1:]
    pictures = [base64.b64decode(line) for line in Path(file).read_text().split()]
    sys.stdout.write(json.dumps(CLIENTS[name](url, keyed_url, key, pictures)) + "\n")
