"""Random requests by the OpenAPI of the routes under `/v1`: none is a failure of the server."""

from collections import defaultdict

import pytest
from service_fixtures import tiny_service

from spaces_demo.service import Limits

pytest.importorskip("gradio", reason="the demo extra is not installed")
pytest.importorskip("schemathesis", reason="the dev extra is not installed")

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error

from spaces_demo.http.api import add_api, new_app

NUM_CASES = 60  # of each route


@pytest.fixture(scope="module")
def service():
    return tiny_service(Limits(per_user=99, text_characters=40), max_new_tokens=6)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_no_request_that_fits_the_schema_or_not_fails_on_the_server(service):
    app = new_app()
    add_api(app, service)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app).include(path_regex="^/v1")
    statuses = defaultdict(set)

    def ask(case):
        if isinstance(case.body, dict) and "model" in case.body and len(statuses[case.operation.label]) % 2:
            case.body["model"] = "ttt"  # a random name of a model is where most requests would end
        response = case.call()
        case.validate_response(response, checks=[not_a_server_error])
        statuses[case.operation.label].add(response.status_code)

    for operation in schema.get_all_operations():
        quick = settings(max_examples=NUM_CASES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        quick(given(case=operation.ok().as_strategy())(ask))()
    assert 200 in statuses["POST /v1/audio/speech"] and len(statuses) >= 5
