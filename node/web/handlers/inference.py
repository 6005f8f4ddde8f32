"""`POST /api/inference/execute` and `GET /api/inference/formats`."""

from __future__ import annotations

import msgspec
from aiohttp import web

from node.errors import NodeError
from node.types import InferenceRequest
from node.web import answers, inputs, schemas
from node.web.caller import caller_and_body
from node.web.keys import EDGE, EXCHANGE


async def execute(request: web.Request) -> web.Response:
    """Run a model on one input, whichever of the three body forms it came in."""
    ours = request.app[EDGE]
    flows = ours.state.ready_flows()
    parse = inputs.parser_for(request)
    try:
        caller, content = await caller_and_body(request, flows, limit=ours.limits.body_bytes)
        asked = parse(request, content)
        if not isinstance(asked, InferenceRequest):
            asked = await asked
        result = await flows.infer(caller, asked)
    except NodeError as error:
        ours.metrics.inferred(error.code)
        raise
    spent = result.run.timings
    ours.metrics.inferred("ok", spent)
    request[EXCHANGE].timing = answers.timing(spent)
    return answers.json(answers.executed(result))


async def formats(request: web.Request) -> web.Response:
    """What inputs this node takes, with their limits, and what each resident model takes."""
    ours = request.app[EDGE]
    resident = ours.state.ready_flows().browse.resident_formats()
    models = [schemas.ModelInputsAnswer(each.model_id, each.key, each.inputs) for each in resident]
    return answers.json(msgspec.structs.replace(ours.formats, models=models))
