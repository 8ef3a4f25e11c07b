"""
A FastAPI application whose handlers call models for the customer who is signed in.

    RELAY_CONFIG=config/relay.yaml uvicorn --factory examples.fastapi_app:create_app

OpenAI's API is served beside it below /v1, for clients with a Relay key.
"""

import os
from collections.abc import AsyncIterator

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from relay_middleware import CustomerCalls, Relay, RelayMiddleware

CUSTOMER_BY_SESSION = {"session-of-ada": "cust_ada", "session-of-bob": "cust_bob"}
"""Stands for the application's own sessions."""


def signed_in_customer(scope) -> str | None:
    """Say whose request this is, by the application's own cookie."""
    return CUSTOMER_BY_SESSION.get(Request(scope).cookies.get("session", ""))


def create_app(relay: Relay | None = None) -> FastAPI:
    """Wire the application."""
    relay = relay or Relay.from_config(os.environ.get("RELAY_CONFIG", "config/relay.yaml"))
    app = FastAPI()
    app.add_middleware(RelayMiddleware, relay=relay, customer=signed_in_customer)

    @app.get("/summary")
    async def summary(request: Request, text: str) -> dict[str, str]:
        calls: CustomerCalls = request.state.relay
        german = await calls.text("Translate into German.", text)
        return {"summary": await calls.text("Summarize in one sentence.", german)}

    @app.get("/story")
    async def story(request: Request) -> StreamingResponse:
        messages = [{"role": "user", "content": "Tell me a story."}]
        chunks = await request.state.relay.chat(messages=messages, stream=True)

        async def words() -> AsyncIterator[str]:
            async for chunk in chunks:
                if chunk.choices and chunk.choices[0].delta.content:
                    yield chunk.choices[0].delta.content

        return StreamingResponse(words(), media_type="text/plain")

    @app.get("/vector")
    async def vector(request: Request, text: str) -> dict[str, int]:
        answer = await request.state.relay.openai().embeddings.create(model="vectors", input=text)
        return {"dimensions": len(answer.data[0].embedding)}

    @app.post("/reports", status_code=202)
    async def report(request: Request, later: BackgroundTasks) -> dict[str, str]:
        # Runs after the response was sent, and is charged to the same customer.
        later.add_task(request.state.relay.text, "Write a report.", "Our Q4 results")
        return {"status": "accepted"}

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    return app
